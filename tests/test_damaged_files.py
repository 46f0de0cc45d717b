"""Every reader meets real files that were damaged in real ways: it reads them or says in a sentence what is wrong.

2,000 inputs from a fixed seed. A hang is 10 s of this process's time; a pipe that is waited for meets pytest's limit.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from alignvid import presets
from alignvid.analysis.trace import Trace
from alignvid.bench.audits.audit import answered_questions, read_human_answers
from alignvid.bench.data.opening import open_data
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.variants import Variant
from alignvid.bench.scoring.judged_run import Asked, read_judged_run
from alignvid.bench.scoring.outcomes import outcomes
from alignvid.calibration.work_folder import PairRow, WorkFolder
from alignvid.cli import main
from alignvid.errors import AlignvidError, InputError
from alignvid.generate import GenerationSpec, generate, read_jobs
from alignvid.generate.loading import find_model
from alignvid.generate.record import read_record
from alignvid.recipe import Recipe
from alignvid.report.rows import comparison_files
from bench_stub import write_data
from damage import damaged_bytes, damaged_json
from judged_folders import sample_of, write_run
from made_traces import made_trace

EACH = 60
"""Damages of each file; there are 17 files, damaged in their JSON and in their bytes."""
_HANG_S = 10


@contextlib.contextmanager
def no_hang():
    def stop(number, frame):
        raise TimeoutError(f"more than {_HANG_S} s of work")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def refusal(read, *arguments) -> str | None:
    """What is said of a file, or None if it is read; anything but a sentence fails the test."""
    with no_hang():
        try:
            read(*arguments)
        except AlignvidError as error:
            text = str(error)
            text.encode()  # it can be printed, and put on a page
            assert text and "Traceback" not in text
            return text
    return None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def damages(file: Path, seed: str):
    """The file again and again, each time damaged in another way; in the end as it was."""
    whole, rng = file.read_bytes(), random.Random(f"{file.name} {seed}")
    for index in range(EACH):
        if index % 3 == 0 or file.suffix not in (".json", ".jsonl"):
            content = damaged_bytes(whole, rng)
        elif file.suffix == ".json":
            content = damaged_json(whole.decode(), rng).encode()
        else:
            lines = whole.decode().splitlines()
            at = rng.randrange(len(lines))
            lines[at] = damaged_json(lines[at], rng)
            content = "\n".join(lines).encode() + b"\n"
        file.write_bytes(content)
        yield content
    file.write_bytes(whole)


def every_damage_is_refused_or_read(file: Path, read, *arguments, seed: str = "", folder: Path | None = None) -> None:
    assert refusal(read, *arguments) is None, "the whole file is read"
    refused = 0
    for content in damages(file, seed):
        before = None if folder is None else contents(folder)
        try:
            refused += refusal(read, *arguments) is not None
        except BaseException:
            print(f"{file.name}: {content[:2000]!r}")
            raise
        assert folder is None or contents(folder) == before, "nothing was written"
    assert refused > EACH // 5, "damage is noticed"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("judged") / "run"
    samples = [sample_of(number) for number in range(2)]
    return write_run(path, samples, metrics={"flicker": lambda sample, variant, seed: 0.9}).path


def read_run(path: Path) -> None:
    """All that scoring, reporting and resuming read."""
    folder = RunFolder(path)
    for variant in folder.info().variants:
        Variant.from_dict(variant)
    outcomes(read_judged_run(folder, Asked()))
    folder.metrics()
    folder.judges()


@pytest.mark.parametrize("name", ["run.json", "samples.jsonl", "answers.jsonl", "metrics.jsonl", "videos"])
@pytest.mark.parametrize("seed", ["a", "b"])
def test_a_run_s_folder(run_folder, name, seed):
    file = next((run_folder / "videos").glob("*.json")) if name == "videos" else run_folder / name
    every_damage_is_refused_or_read(file, read_run, run_folder, seed=seed, folder=run_folder)


@pytest.fixture(scope="module")
def generation(tmp_path_factory):
    picture = Path(__file__).parents[1] / "examples" / "scene-1.png"
    spec = GenerationSpec(prompt="add a red circle", image=str(picture), steps=1)
    return generate(spec, tmp_path_factory.mktemp("made") / "out").folder


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_generation_s_record(generation, seed):
    def read(folder):
        record = read_record(folder)
        comparison_files(record)
        Recipe.from_dict(record.recipe)
        GenerationSpec.from_dict({**record.spec, **record.settings, "dtype": record.machine["dtype"]})

    every_damage_is_refused_or_read(generation / "record.json", read, generation, seed=seed, folder=generation)


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_file_of_jobs(tmp_path, seed):
    rows = [{"id": name, "prompt": "a cat", "image": f"{name}.png", "seed": 3} for name in "abc"]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    every_damage_is_refused_or_read(tmp_path / "jobs.jsonl", read_jobs, tmp_path / "jobs.jsonl", {}, seed=seed)


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_data_set(tmp_path, seed):
    folder = write_data(tmp_path / "data", 2)

    def read(name):
        data = open_data(name)
        data.digest()
        for sample in data.samples:
            with contextlib.suppress(InputError):  # it costs its own sample
                data.image_of(sample)

    every_damage_is_refused_or_read(folder / "meta.json", read, str(folder), seed=seed, folder=folder)


@pytest.mark.parametrize("seed", ["a", "b"])
@pytest.mark.parametrize("name", ["pairs.jsonl", "run.json"])
def test_a_calibration_s_folder(tmp_path, name, seed):
    run = {"model": "tiny", "steps": 4, "settings": {"blocks": [0, 1], "names": ["a"]}}
    folder = WorkFolder(tmp_path / "work", run)
    for id in "ab":
        folder.append(PairRow(id, "0" * 64, 0.25, 0.3, [0.5, 1 / 3], [["blocks", 0], ["blocks", 1]]))
    every_damage_is_refused_or_read(tmp_path / "work" / name, WorkFolder, tmp_path / "work", run, seed=seed)


@pytest.mark.parametrize("seed", ["a", "b"])
def test_people_s_answers(run_folder, tmp_path, seed):
    known = {item.key: item for item in answered_questions(read_judged_run(RunFolder(run_folder), Asked()))}
    rows = [{"job": job, "question": question, "answer": "yes"} for job, question in known]
    (tmp_path / "a.json").write_text(json.dumps({"answers": rows}))
    every_damage_is_refused_or_read(tmp_path / "a.json", read_human_answers, tmp_path / "a.json", known, seed=seed)


def test_people_s_answers_as_a_table(run_folder, tmp_path):
    known = {item.key: item for item in answered_questions(read_judged_run(RunFolder(run_folder), Asked()))}
    lines = ["job,question,answer", *(f"{job},{question},no" for job, question in known)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    every_damage_is_refused_or_read(tmp_path / "a.csv", read_human_answers, tmp_path / "a.csv", known)


@pytest.mark.parametrize("seed", ["a", "b"])
def test_a_trace(tmp_path, seed):
    made_trace().save(tmp_path / "a.trace")
    every_damage_is_refused_or_read(tmp_path / "a.trace", Trace.load, tmp_path / "a.trace", seed=seed)


@pytest.mark.parametrize("seed", ["a", "b"])
def test_a_preset(tmp_path, seed):
    source = Path(presets.__file__).parent / "miniature.toml"
    shutil.copy(source, tmp_path / "mine.toml")
    every_damage_is_refused_or_read(tmp_path / "mine.toml", presets.load, str(tmp_path / "mine.toml"), seed=seed)


def test_a_recipe(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(presets.load("wan2.1-i2v-14b").recipe.to_dict()))

    def read(file):
        try:
            values = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise InputError("no JSON") from error
        if isinstance(values, dict):
            Recipe.from_dict(values)

    every_damage_is_refused_or_read(tmp_path / "recipe.json", read, tmp_path / "recipe.json")


@pytest.mark.parametrize("seed", ["a", "b"])
def test_a_model_s_index(tmp_path, seed):
    index = {"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"], "vae": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    every_damage_is_refused_or_read(tmp_path / "model_index.json", find_model, str(tmp_path), seed=seed)


@pytest.mark.parametrize("command", [("bench", "score"), ("bench", "audit"), ("bench", "judge", "--judge", "rule")])
def test_the_command_line_says_a_sentence_and_exits_2(run_folder, tmp_path, command, capsys):
    verb, noun, *options = command
    path = shutil.copytree(run_folder, tmp_path / "run")
    files = [path / "run.json", path / "samples.jsonl", next((path / "videos").glob("*.json"))]
    for file in files:
        for _ in islice(damages(file, "cli"), 8):
            with no_hang(), pytest.raises(SystemExit) as ended:
                main([verb, noun, str(path), *options])
            said = capsys.readouterr().err
            assert ended.value.code in (0, None, 1, 2)
            assert "Traceback" not in said
            if ended.value.code == 2:
                assert said.startswith("alignvid: ") and said.count("\n") == 1


@pytest.mark.parametrize("damage", ["[" * 100_000, '{"schema_version": 1}', "\0", '{"a": 1, "a": 2}', "NaN"], ids=len)
def test_as_a_command_of_its_own(run_folder, tmp_path, damage):
    path = shutil.copytree(run_folder, tmp_path / "run")
    (path / "run.json").write_text(damage)
    before = contents(path)
    command = [sys.executable, "-m", "alignvid", "bench", "score", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("alignvid: ") and done.stderr.count("\n") == 1
    assert contents(path) == before
