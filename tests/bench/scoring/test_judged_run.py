import json

import pytest

from alignvid.bench.records import append_rows
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.scoring.judged_run import Asked, read_judged_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from judged_folders import answer_of, right, sample_of, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", [sample_of(n) for n in range(2)])


def add_answers(folder, **changes):
    rows = [
        answer_of(video, question, right(question), **changes)
        for video in folder.videos()
        for sample in folder.samples()
        if sample.id == video.sample
        for question in sample.questions
    ]
    append_rows(folder.path / "answers.jsonl", rows)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_judged_run(RunFolder(tmp_path), Asked())


def test_a_run_without_answers_says_what_to_type(tmp_path):
    folder = write_run(tmp_path / "run", [sample_of(0)], decide=lambda *_: None)
    with pytest.raises(InputError, match=r"no answers yet; type: alignvid bench judge .*run --judge rule"):
        read_judged_run(folder, Asked())


def test_answers_of_two_judges_are_never_mixed(folder):
    add_answers(folder, judge="openai:qwen", protocol="paper")
    add_answers(folder, judge="openai:qwen", protocol="logit")
    with pytest.raises(InputError, match=r"3 judgings.*--judge openai:qwen --protocol logit.*--judge rule"):
        read_judged_run(folder, Asked())
    with pytest.raises(InputError, match="2 judgings"):
        read_judged_run(folder, Asked(judge="openai:qwen"))
    chosen = read_judged_run(folder, Asked(judge="openai:qwen", protocol="paper"))
    assert str(chosen.judging) == "--judge openai:qwen --protocol paper --settings 00000000"
    assert len(chosen.answers) == 8


def test_answers_with_two_settings_are_never_mixed(folder):
    add_answers(folder, settings="abcdef")
    with pytest.raises(InputError, match="2 judgings"):
        read_judged_run(folder, Asked())
    assert read_judged_run(folder, Asked(settings="ab")).judging.settings == "abcdef"


def test_a_judge_that_did_not_answer_is_refused_with_those_that_did(folder):
    with pytest.raises(InputError, match=r"no answers of --judge gemini; choose from: --judge rule --protocol rule"):
        read_judged_run(folder, Asked(judge="gemini"))


def test_a_variant_that_does_not_exist_is_refused_with_those_that_do(folder):
    with pytest.raises(InputError, match="no variant 'cfg'; choose from baseline, alignvid"):
        read_judged_run(folder, Asked(variants=("baseline", "cfg")))
    with pytest.raises(InputError, match="named twice"):
        read_judged_run(folder, Asked(variants=("baseline", "baseline")))


def test_the_first_variant_named_is_the_one_compared_with(folder):
    assert read_judged_run(folder, Asked(variants=("alignvid", "baseline"))).variants == ("alignvid", "baseline")


def test_an_answer_about_an_older_video_is_counted_and_left_out(folder):
    path = next((folder.path / "videos").glob("*.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"sha256": "made anew"}))
    run = read_judged_run(folder, Asked())
    assert run.left_out.stale_answers == 2
    assert len(run.answers) == 6


def test_an_answer_about_a_job_or_question_outside_the_plan_is_counted(folder):
    row = folder.answers()[0]
    stranger = type(row)(**{**vars(row), "job": "stranger"})
    extra = type(row)(**{**vars(row), "question": "q99"})
    append_rows(folder.path / "answers.jsonl", [stranger, extra])
    assert read_judged_run(folder, Asked()).left_out.unplanned_answers == 2


def test_two_videos_for_one_cell_are_refused(folder):
    path = next((folder.path / "videos").glob("*.json"))
    path.with_name("twin.json").write_text(json.dumps(json.loads(path.read_text()) | {"job": "twin"}))
    with pytest.raises(InputError, match="are both of sample"):
        read_judged_run(folder, Asked())


@pytest.mark.parametrize("damage", ['{"id": "sample_9"}', "{half", "[]", '"text"'])
def test_a_damaged_sample_is_named_by_its_line(folder, damage):
    file = folder.path / "samples.jsonl"
    file.write_text(file.read_text() + damage + "\n")
    with pytest.raises(InputError, match=r"samples.jsonl', line 3 is no sample"):
        read_judged_run(folder, Asked())


@pytest.mark.parametrize("damage", ['{"schema_version": 1, "judge": "rule"}', "[]"])
def test_a_damaged_answer_is_named_by_its_line(folder, damage):
    file = folder.path / "answers.jsonl"
    file.write_text(damage + "\n" + file.read_text())
    with pytest.raises(InputError, match=r"answers.jsonl', line 1 is no row: AnswerRecord"):
        read_judged_run(folder, Asked())


def test_a_verdict_that_is_none_is_refused(folder):
    file = folder.path / "answers.jsonl"
    file.write_text(file.read_text().replace(f'"{Verdict.YES}"', '"perhaps"', 1))
    with pytest.raises(InputError, match="the field 'verdict' is 'perhaps'; it must be 'yes', 'no'"):
        read_judged_run(folder, Asked())


def test_a_damaged_video_record_is_named(folder):
    next((folder.path / "videos").glob("*.json")).write_text("{half")
    with pytest.raises(InputError, match=r"\.json' is no record"):
        read_judged_run(folder, Asked())
