"""benchmarks/gpu.py: every row's code runs on a CPU at a tiny size, lest minutes on a GPU are spent on it."""

import re
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu
from gpu_models import MODELS, REHEARSAL
from gpu_pack import needed
from gpu_rows import TASKS, GpuRow, model_rows

ORDINARY = re.compile(r"acted [1-9]\d* times; active changes the output by (?!0\.00%)[\d.]+%, inactive by ")


@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])
def test_every_row_is_measured_or_says_why_not(name):
    rows = list(model_rows(MODELS[name], REHEARSAL, end=float("inf")))
    assert [row.run for row in rows] == [task.what for task in TASKS]
    for row, task in zip(rows, TASKS, strict=True):
        if name == "hunyuan_video" and task.attention == "_native_flash":  # its pipeline gives a mask
            assert "mask" in row.remark and not row.n
            continue
        assert ORDINARY.match(row.remark), row
        assert row.n == str(REHEARSAL.most_rounds) and float(row.active.partition(" ")[0]) > 0


def test_a_row_for_which_no_time_is_left_says_so():
    rows = list(model_rows(MODELS["wan"], REHEARSAL, end=time.monotonic() + 1.0))
    assert len(rows) == len(TASKS) and all(re.match(r"left out: \d s left, \d+ s needed", row.remark) for row in rows)


def test_the_table_is_written_with_its_heading(tmp_path):
    row = GpuRow("a", "b", *"cdefgh", "i", "j")
    gpu.written(tmp_path / "new" / "gpu.md", [row, row], gpu.heading(is_rehearsal=True, seconds=2.4))
    title, _, names, rule, *lines = (tmp_path / "new" / "gpu.md").read_text().splitlines()
    assert "rehearsal" in title and title.endswith("; 2 s")
    assert names.startswith("| model | run | tokens | detached ms |") and rule.count("---") == len(row)
    assert lines == ["| a | b | c | d | e | f | g | h | i | j |"] * 2


def test_what_is_carried_is_pure_python_and_what_is_compiled_is_named():
    pure, compiled = needed()
    assert {"diffusers", "transformers", "importlib-metadata"} <= set(pure)
    assert {"torch", "numpy", "tokenizers"} <= set(compiled) and not set(pure) & set(compiled)


def test_without_a_gpu_the_rehearsal_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="--rehearse"):
        gpu.main(["--out", str(tmp_path / "gpu.md")])
