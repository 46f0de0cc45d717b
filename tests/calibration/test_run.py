"""A calibration from pairs to a preset that attaches; interrupted, damaged, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alignvid
import model_folders
from alignvid import presets
from alignvid.calibration import calibrate
from alignvid.calibration import run as run_module
from alignvid.errors import AlignvidError, InputError, ObservationError, OutputError, RecipeError
from alignvid.generate import loading
from alignvid.generate.model import load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*pairs are few", "ignore:Every block has")


@pytest.fixture(scope="session")
def loaded():
    """Models by folder, each loaded once: observing leaves nothing behind."""
    return {}


@pytest.fixture(autouse=True)
def loads_once(monkeypatch, loaded):
    def load_model(source, spec, *, show_progress):
        if source.location not in loaded:
            loaded[source.location] = load(source, spec, show_progress=show_progress)
        return loaded[source.location]

    load = run_module.load_model
    monkeypatch.setattr(run_module, "load_model", load_model)


@pytest.fixture
def run(fields, data, tmp_path):
    """Calibrate the tiny pipeline on three pairs with masks."""

    def run(out="preset.toml", **changes):
        settings = {"fields": fields, "masks": str(data / "masks"), "tau": 0.0} | changes
        return calibrate(str(data / "jobs.jsonl"), tmp_path / out, **settings)

    return run


def rows_of(tmp_path, name="preset"):
    return (tmp_path / f"{name}.calibration" / "pairs.jsonl").read_text().splitlines()


def test_the_preset_attaches_and_holds_what_was_measured(run, loaded, fields, tmp_path):
    made = run()
    preset = presets.load(str(tmp_path / "preset.toml"))
    assert preset.recipe == made.recipe
    assert preset.recipe.gamma == 1.5
    assert preset.recipe.blocks.indices("blocks", 3) == tuple(b.block for b in made.blocks if b.is_chosen)
    assert "3 image-prompt pairs of jobs.jsonl" in preset.provenance
    measured = preset.calibration
    assert [row["ratio"] for row in measured["blocks"]] == pytest.approx([b.ratio for b in made.blocks], abs=1e-6)
    assert (measured["pairs"], measured["foreground"], measured["tau"]) == (3, "masks", 0.0)
    assert len(measured["weights_sha256"]) == 64
    assert measured["versions"]["torch"] and measured["data_sha256"]
    pipe = loaded[fields["model"]].pipeline
    with alignvid.attach(pipe, str(tmp_path / "preset.toml")) as attachment:
        assert attachment.recipe == made.recipe


def test_only_the_steps_of_the_window_are_run(run, fields, monkeypatch):
    seen = []
    original = run_module.measure

    def measure(model, planned, mask, window):
        hook = model.pipeline.transformer.register_forward_hook(lambda *_: seen.append(1))
        made = original(model, planned, mask, window)
        hook.remove()
        return made

    monkeypatch.setattr(run_module, "measure", measure)
    run(fields=fields | {"steps": 10, "steps_window": "0.0-0.3", "guidance": 1.0})
    assert len(seen) == 3 * 3


def test_another_tau_measures_nothing_again(run, tmp_path, monkeypatch):
    made = run()
    monkeypatch.setattr(run_module, "load_model", None)
    best = max(made.blocks, key=lambda block: block.ratio)
    second = sorted(block.ratio for block in made.blocks)[-2]
    again = run(tau=(best.ratio + second) / 2)
    assert [block.block for block in again.blocks if block.is_chosen] == [best.block]


def test_more_pairs_of_the_same_data_go_on(run, tmp_path):
    run(count=2)
    first_two = rows_of(tmp_path)
    run()
    assert rows_of(tmp_path)[:2] == first_two and len(rows_of(tmp_path)) == 3


def test_pictures_are_a_sheet_per_block(run, tmp_path):
    run(pictures=tmp_path / "sheets")
    names = sorted(file.name for file in (tmp_path / "sheets").iterdir())
    assert names == ["blocks-00.png", "blocks-01.png", "blocks-02.png"]
    sheet = np.asarray(Image.open(tmp_path / "sheets" / names[0]))
    assert sheet.shape == (52 + 3 * 108, 8 + 4 * 208, 3)
    mask = sheet[52:152, 216:416].mean()  # the second column: 20 x 16 of 64 x 32 pixels are white
    assert mask == pytest.approx(255 * 20 * 16 / (64 * 32), abs=3)


def test_framepack_is_calibrated_in_the_stack_that_its_recipe_acts_in(data, tmp_path, monkeypatch):
    folders = model_folders.save_framepack_f1(tmp_path / "models")
    monkeypatch.setattr(loading, "_FRAMEPACK_BASE", str(folders.base))
    monkeypatch.setattr(loading, "_FRAMEPACK_IMAGE_ENCODER", str(folders.image_encoder))
    jobs = [json.loads(line) | {"prompt": "the cat " * 12} for line in (data / "jobs.jsonl").read_text().splitlines()]
    (data / "jobs.jsonl").write_text("\n".join(json.dumps(job) for job in jobs))
    fields = {"model": str(folders.transformer), "width": 64, "height": 32, "frames": 9, "steps": 2}
    masks, preset = str(data / "masks"), {"preset": str(single_preset(tmp_path))}
    made = calibrate(str(data / "jobs.jsonl"), tmp_path / "p.toml", fields=fields | preset, masks=masks, tau=0.0)
    assert {(block.stack, block.is_chosen) for block in made.blocks} == {
        ("transformer_blocks", False),
        ("single_transformer_blocks", True),
    }


def single_preset(folder):
    recipe = 'blocks = "all", steps = { unit = "fraction", start = 0.0, stop = 1.0 }'
    path = folder / "single.toml"
    path.write_text(
        'title = "t"\nfamily = "framepack"\ndefault = "a"\n[readings.a]\nprovenance = "test"\n'
        f'recipe = {{ {recipe}, modulation = {{ kind = "scalar", gamma = 1.35, powers = {{ "single.*" = 1.0 }} }} }}\n'
    )
    return path


def test_sam2_finds_the_foreground_and_is_named_in_the_preset(run, sam2_folder, tmp_path):
    run(masks=None, sam2=str(sam2_folder))
    preset = presets.load(str(tmp_path / "preset.toml"))
    assert preset.calibration["foreground"] == "sam2"
    assert f"foreground from SAM 2 ({sam2_folder})" in preset.provenance


def test_a_sam2_that_is_not_there_is_told_before_the_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(run_module, "load_model", None)
    with pytest.raises(InputError, match="SAM 2 cannot be loaded from 'none'"):
        run(masks=None, sam2="none")


def test_few_pairs_and_a_guessed_foreground_are_said_aloud(run, recwarn, tmp_path):
    made = run(masks=None)
    assert any("3 pairs are few" in note for note in made.notes)
    assert any("GrabCut" in note for note in made.notes)
    assert presets.load(str(tmp_path / "preset.toml")).calibration["notes"] == made.notes


def test_pictures_without_a_foreground_are_left_out_and_said_aloud(run, data, tmp_path):
    Image.new("L", (64, 32), 255).save(data / "masks" / "pair-1.png")
    with pytest.warns(UserWarning, match="1 of 3 pairs are left out, because all or nothing .*: pair-1"):
        assert run().pair_count == 2
    Image.new("L", (64, 32), 255).save(data / "masks" / "pair-2.png")
    with (
        pytest.raises(InputError, match="Only 1 of 3 pairs have a foreground"),
        pytest.warns(UserWarning, match="left"),
    ):
        run("other.toml")


def test_no_block_above_tau_keeps_the_preset_that_was_there_and_what_was_measured(run, tmp_path):
    (tmp_path / "preset.toml").write_text("old")
    with pytest.raises(InputError, match="Give a smaller --tau"):
        run(tau=0.999)
    assert (tmp_path / "preset.toml").read_text() == "old"
    assert len(rows_of(tmp_path)) == 3


def test_a_crash_keeps_the_pairs_before_it_and_the_old_preset(run, tmp_path, monkeypatch):
    (tmp_path / "preset.toml").write_text("old")
    expected = run("whole.toml")
    original, calls = run_module.measure, []

    def measure(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return original(*arguments)

    monkeypatch.setattr(run_module, "measure", measure)
    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    assert (tmp_path / "preset.toml").read_text() == "old"
    assert len(rows_of(tmp_path)) == 2
    assert run().blocks == expected.blocks
    assert len(calls) == 4  # only the third pair was measured again


def test_data_that_changed_since_is_refused(run, data, tmp_path):
    run(count=2)
    lines = (data / "jobs.jsonl").read_text()
    (data / "jobs.jsonl").write_text(lines.replace("disappears", "jumps", 1))
    with pytest.raises(InputError, match="The pair 'pair-0' has another prompt, picture, seed or mask than when"):
        run()
    (data / "jobs.jsonl").write_text(lines)
    assert run().pair_count == 3


def test_other_settings_in_the_same_place_are_refused(run, fields):
    run(count=2)
    with pytest.raises(InputError, match="holds a calibration with other steps: 2 then, 3 now"):
        run(fields=fields | {"steps": 3})


def test_nan_in_the_activations_names_the_pair_and_loses_nothing(run, fields, tmp_path, monkeypatch):
    run(count=2)

    def load_damaged(source, spec, *, show_progress):
        model = load_model(source, spec, show_progress=show_progress)
        model.pipeline.transformer.blocks[1].attn1.to_q.weight.data.fill_(float("nan"))
        return model

    monkeypatch.setattr(run_module, "load_model", load_damaged)
    with pytest.raises(ObservationError, match="The pair 'pair-2': NaN or infinity in attention self of block 1"):
        run()
    assert len(rows_of(tmp_path)) == 2


REFUSED = {
    "tau of 1": ({"tau": 1.0}, InputError, "tau is 1"),
    "tau is no number": ({"tau": float("nan")}, InputError, "tau is nan"),
    "name without .toml": ({"out": "preset.json"}, InputError, "must end in .toml"),
    "one pair": ({"count": 1}, InputError, "at least 2"),
    "model missing": ({"fields": {"model": "none"}}, InputError, "is not there"),
    "window of no step": ({"fields": {"steps_window": "none"}}, RecipeError, "contains no step to watch"),
    "masks missing": ({"masks": "none"}, InputError, "3 of 3 masks are missing"),
    "stream missing": ({"fields": {"streams": "history"}}, AlignvidError, "not a stream"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_told_before_a_model_is_loaded(run, monkeypatch, case):
    changes, kind, message = REFUSED[case]
    monkeypatch.setattr(run_module, "load_model", None)
    with pytest.raises(kind, match=message):
        run(**changes)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder that nobody may write into")
def test_a_read_only_folder_is_refused(run):
    with pytest.raises(OutputError, match="Cannot write into"):
        run("/proc/preset.toml")


def begin(data, fields, out):
    size = f"{fields['width']}x{fields['height']}"
    written = {"size": size} | {name: value for name, value in fields.items() if name not in ("width", "height")}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in written.items()]
    arguments = ["--data", str(data / "jobs.jsonl"), "--masks", str(data / "masks"), "--out", str(out), "--tau", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "alignvid", "calibrate", *arguments, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a parent in the background passes on "ignore"
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a signal that stands for Ctrl-C")
@pytest.mark.timeout(700)  # a process of its own takes minutes to begin where many others run
def test_ctrl_c_in_the_middle_and_the_same_again_gives_the_same_preset_bit_for_bit(run, data, fields, tmp_path):
    slow = fields | {"steps": 40}  # a fraction of a second per pair, so that the signal meets the second or third
    run("whole.toml", fields=slow)
    with begin(data, slow, tmp_path / "preset.toml") as process:
        rows = tmp_path / "preset.calibration" / "pairs.jsonl"
        deadline = time.monotonic() + 500
        while not rows.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip().endswith("alignvid: Interrupted; what was measured is kept, the same command resumes there.")
    assert not (tmp_path / "preset.toml").exists()
    assert 1 <= len(rows_of(tmp_path)) < 3
    run(fields=slow)
    assert (tmp_path / "preset.toml").read_bytes() == (tmp_path / "whole.toml").read_bytes()
