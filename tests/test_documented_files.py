"""docs/files.md: its examples are read by the package's own readers, and it names every field that these know."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image

import alignvid
from alignvid import presets
from alignvid.bench.data import omiti2v
from alignvid.bench.data.opening import open_data
from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.records import AnswerRecord, JudgeRecord, MetricRecord, VideoRecord
from alignvid.bench.run_folder import RunFolder, RunInfo
from alignvid.following.folder import AttemptRow, JudgedRow, LoopFolder, read_questions
from alignvid.generate import GenerationSpec, read_jobs
from alignvid.generate import jobs as jobs_file
from alignvid.generate.loading import find_model
from alignvid.generate.record import Record, read_record
from alignvid.generate.sketch import resolve, sketch
from alignvid.modulation.registry import kind_names
from alignvid.presets import _Match, _Reading
from alignvid.presets import _Written as _Preset
from alignvid.recipe import _Written as _Recipe

PAGE = (Path(__file__).parent.parent / "docs" / "files.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: text for _, name, text in re.findall(r'^```(\w+) title="(\S+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
}


def documented(heading: str) -> dict[str, bool]:
    """Fields in the first table below a heading, and whether each must be there."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    rows = re.findall(r"^\| (.*?) \|", section.split("\n#")[0], re.MULTILINE)
    cells = [part for row in rows if "`" in row for part in row.split(", ")]
    return {re.search("`(.*)`", cell)[1]: cell.startswith("**") for cell in cells}


def names(kind) -> set[str]:
    return set(get_type_hints(kind))


def written(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(EXAMPLES[name], encoding="utf-8")
    return folder


def keys(value) -> set[str]:
    return set(value)


def test_a_data_set_is_read_and_has_every_field(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (832, 480)).save(tmp_path / "images" / "cat.png")
    data = open_data(str(written(tmp_path, "meta.json")))
    assert not data.dropped and data.image_of(data.samples[0]).suffix == ".png"
    hyphened = {item.name.replace("_", "-") for item in fields(Sample)}
    table = documented("Data set")
    assert set(table) == hyphened | {f"questions[].{name}" for name in names(Question)}
    needed = {*omiti2v._NEEDED, *(f"questions[].{name}" for name in omiti2v._NEEDED_OF_QUESTIONS)}
    assert {name for name, is_needed in table.items() if is_needed} == needed
    (row,) = json.loads(EXAMPLES["meta.json"])
    assert keys(row) == hyphened and all(keys(question) == names(Question) for question in row["questions"])


@pytest.mark.parametrize("field", [*omiti2v._NEEDED, *omiti2v._NEEDED_OF_QUESTIONS])
def test_a_data_set_without_a_bold_field_is_refused(tmp_path, field):
    rows = json.loads(EXAMPLES["meta.json"])
    holder = rows[0]["questions"][1] if field in omiti2v._NEEDED_OF_QUESTIONS and field != "id" else rows[0]
    del holder[field]
    (tmp_path / "meta.json").write_text(json.dumps(rows))
    with pytest.raises(alignvid.errors.InputError, match=f"{field}' is missing"):
        open_data(str(tmp_path))


def test_a_recipe_file_is_a_preset_for_whatever_model_it_fits(tmp_path):
    file = written(tmp_path, "mine.toml") / "mine.toml"
    preset = presets.load(str(file))
    assert (preset.name, preset.family) == ("mine", "*")
    assert [part.modulation.kind for part in preset.recipe.parts] == ["scalar", "energy"]
    nothing = dict.fromkeys(("gamma", "blocks", "steps", "streams", "branch"))
    assert resolve(sketch(find_model("miniature")), str(file), nothing).recipe == preset.recipe


def test_every_field_of_a_recipe_is_documented():
    table = documented("Recipe file")
    within = {f"steps.{name}" for name in alignvid.StepWindow.fraction(0, 1).__dataclass_fields__}
    modulation = {f"modulation.{name}" for name in ("kind", "gamma", "powers", "shares_with_guidance")}
    assert set(table) == names(_Recipe) | within | modulation
    assert {name for name, is_needed in table.items() if is_needed} == {"modulation", "blocks", "steps"}
    section = PAGE.split("## Recipe file")[1].split("\n## ")[0]
    assert all(f"`{kind}`" in section for kind in kind_names())


def test_a_preset_file_is_read_and_has_every_field(tmp_path):
    preset = presets.load(str(written(tmp_path, "my-model.toml") / "my-model.toml"))
    assert preset.name == "my-model:measured" and preset.family == "wan" and preset.calibration == {"tau": 0.5}
    table = documented("Preset file")
    inner = {f"readings.*.{name}" for name in names(_Reading)} | {f"match.{name}" for name in names(_Match)}
    assert set(table) == names(_Preset) | inner
    import tomllib

    values = tomllib.loads(EXAMPLES["my-model.toml"])
    assert keys(values) == names(_Preset) and keys(values["match"]) == names(_Match)


def test_a_damaged_recipe_file_names_itself(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('modulation = { kind = "scalar", gamma = 1.5, powers = { "cross.text" = 1.0 } }\nblocks = "all"\n')
    with pytest.raises(
        alignvid.errors.RecipeError, match=r"The recipe file '.*a.toml': A recipe lacks the field 'steps'"
    ):
        presets.load(str(file))


def test_a_jobs_file_is_read_and_has_every_field(tmp_path):
    jobs = read_jobs(written(tmp_path, "jobs.jsonl") / "jobs.jsonl", {})
    assert [job.id for job in jobs] == ["hat", "dog"]
    assert (jobs[0].spec.seed, jobs[0].spec.negative_prompt) == (7, "blurry")
    table = documented("Jobs file")
    assert set(table) == names(jobs_file._Written) == keys(json.loads(EXAMPLES["jobs.jsonl"].splitlines()[0]))
    assert {name for name, is_needed in table.items() if is_needed} == {"id", "prompt"}


def test_a_record_is_read_and_has_every_field(tmp_path):
    record = read_record(written(tmp_path, "record.json"))
    assert record.to_dict() == json.loads(EXAMPLES["record.json"])
    assert set(documented("record.json")) == names(Record) == keys(json.loads(EXAMPLES["record.json"]))
    assert set(record.spec) == {item.name for item in fields(GenerationSpec)}
    GenerationSpec.from_dict(record.spec)


def test_the_folder_of_a_benchmark_is_read_and_has_every_field(tmp_path):
    files = [name for name in EXAMPLES if name in BENCH or name.startswith("videos/")]
    folder = RunFolder(written(tmp_path, *files))
    assert folder.info().variant_names == ["baseline", "cfg"]
    assert [sample.id for sample in folder.samples()] == ["cat-hat"]
    assert folder.videos()[0].noise_seed == 1234
    assert folder.answers()[0].p_yes == 0.93
    assert folder.judges()[0].values["fps"] == 8
    assert folder.metrics()[0].value == 0.98


BENCH = {
    "run.json": (RunInfo, "run.json"),
    "videos/0011223344556677.json": (VideoRecord, "videos/JOB.json"),
    "answers.jsonl": (AnswerRecord, "answers.jsonl"),
    "judges.jsonl": (JudgeRecord, "judges.jsonl"),
    "metrics.jsonl": (MetricRecord, "metrics.jsonl"),
    "samples.jsonl": (Sample, None),
}


@pytest.mark.parametrize("file", BENCH)
def test_every_field_of_a_benchmark_s_file_is_documented_and_in_its_example(file):
    kind, heading = BENCH[file]
    assert keys(json.loads(EXAMPLES[file])) - {"schema_version"} == names(kind) - {"schema_version"}
    if heading is not None:
        assert set(documented(heading)) - {"schema_version"} == names(kind) - {"schema_version"}


@pytest.mark.parametrize(("file", "kind"), [("attempts.jsonl", AttemptRow), ("judged.jsonl", JudgedRow)])
def test_the_rows_of_a_loop_are_read_and_have_every_field(file, kind, tmp_path):
    folder = LoopFolder(written(tmp_path, file), {})
    (row,) = folder.rows(file, kind)
    assert row.number == 2
    assert keys(json.loads(EXAMPLES[file])) == names(kind) | {"schema_version"} == set(documented(file))


def test_the_questions_of_a_loop_are_read_and_have_every_field(tmp_path):
    questions = read_questions(written(tmp_path, "questions.json") / "questions.json")
    assert [one.about for one in questions] == ["edit", "rest"]
    assert keys(questions[0].to_dict()) == set(documented("questions.json"))


def test_what_a_generation_leaves_is_in_the_table(tmp_path):
    from alignvid.generate import ObservationSpec, generate
    from alignvid.report.rows import comparison_files

    picture = Path(__file__).parent.parent / "examples" / "scene-1.png"
    spec = GenerationSpec(image=str(picture), prompt="add a green circle", steps=1)
    made = generate(spec, tmp_path, compare=True, observation=ObservationSpec(), companions=comparison_files)
    left = {path.name for path in made.folder.iterdir()}
    assert left <= set(documented("Folder of a generation"))
    assert left >= {"index.html", "record.json", "reference.png", "alignvid.trace", "baseline.mp4"}
