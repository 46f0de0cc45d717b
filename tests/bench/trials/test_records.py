"""From answers to a verdict, a record, and a table of several."""

import json
import shutil
from pathlib import Path

import pytest

import trial_stub
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.trials.blind import draw_pairs, read_answers
from alignvid.bench.trials.merging import markdown, merge, outcomes_by_model
from alignvid.bench.trials.record import MAX_BYTES, read_record, record_of
from alignvid.errors import InputError


def recorded(result, *answers: Path):
    plan, folder = result.registration, RunFolder(result.run.folder)
    return record_of(plan, folder, read_answers(answers, plan, draw_pairs(plan, folder)))


def arms_of(record):
    (model,) = outcomes_by_model([record])
    return {arm.arm: arm for arm in model.arms}


def test_without_people_nothing_is_decided_and_with_too_few_scenes_neither(finished, tmp_path):
    arms = arms_of(recorded(finished))
    assert {arm.verdict for arm in arms.values()} == {"not decided"} and "0 of its scenes" in arms["generic"].why
    file = trial_stub.answered(finished, tmp_path / "few.json")
    values = json.loads(file.read_text())
    values["answers"] = values["answers"][:8]
    file.write_text(json.dumps(values))
    assert arms_of(recorded(finished, file))["generic"].verdict == "not decided"


@pytest.mark.parametrize(
    ("follows", "apart", "verdict"),
    [
        (lambda pair: 1, lambda pair: 0, "helps"),
        (lambda pair: 1, lambda pair: -1, "helps, at a price"),
        (lambda pair: -1, lambda pair: 0, "hurts"),
        (lambda pair: 0, lambda pair: 0, "no difference shown"),
    ],
    ids=["helps", "price", "hurts", "none"],
)
def test_a_verdict_follows_from_the_answers_by_the_criteria_of_the_plan(finished, tmp_path, follows, apart, verdict):
    record = recorded(finished, trial_stub.answered(finished, tmp_path / "a.json", follows, apart))
    arm = arms_of(record)["generic"]
    assert (arm.verdict, arm.is_primary, arm.acted, arm.made) == (verdict, True, 12, 12)
    assert arm.follows.value == follows(None) and arm.apart.value == apart(None) and arm.follows.n == 12


def test_an_arm_that_did_not_act_is_not_decided_whatever_people_saw(data, tmp_path):
    trial = trial_stub.planned(data, tmp_path / "log", silent=frozenset({"generic"}))
    result = trial_stub.run(trial, tmp_path / "out")
    arm = arms_of(recorded(result, trial_stub.answered(result, tmp_path / "a.json")))["generic"]
    assert arm.verdict == "not decided" and "in 0 of 12 clips" in arm.why


def test_times_and_memory_are_against_the_same_scene_and_noise(finished):
    arm = arms_of(recorded(finished))["generic"]
    assert arm.time_ratio == pytest.approx(1.05) and arm.more_bytes == 200
    assert arm.flow.n == 12 and arm.stillness.n == 12


def test_answers_of_another_page_of_no_page_and_twice_the_same_are_refused(finished, tmp_path):
    good = trial_stub.answered(finished, tmp_path / "good.json")
    other = trial_stub.answered(finished, tmp_path / "other.json", page="0" * 20)
    again = Path(shutil.copy(good, tmp_path / "again.json"))
    (tmp_path / "none.json").write_text('{"answers": []}')
    for files, message in (
        ((other,), "answers of another page"),
        ((good, again), "the same answers as another file"),
        ((tmp_path / "none.json",), "lacks the field"),
        ((tmp_path / "gone.json",), "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            recorded(finished, *files)


def test_a_record_has_no_prompt_and_no_path_is_read_back_and_shows_any_change(finished, data, tmp_path):
    record = recorded(finished, trial_stub.answered(finished, tmp_path / "a.json"))
    file = tmp_path / "record.json"
    file.write_bytes(record.to_bytes())
    assert read_record(file) == record and file.stat().st_size < MAX_BYTES / 50
    assert "the cat puts on a hat" not in file.read_text() and str(tmp_path) not in file.read_text()

    values = json.loads(file.read_text())
    values["raters"][0]["answers"][0]["follows"] = -1
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match="damaged or was changed"):
        read_record(file)
    file.write_bytes(record.to_bytes()[:-40])
    with pytest.raises(InputError, match="no JSON"):
        read_record(file)
    file.write_text("[]")
    with pytest.raises(InputError, match="no record of a trial"):
        read_record(file)


def test_records_are_merged_by_scene_and_one_trial_twice_or_another_plan_is_refused(finished, data, tmp_path):
    second = trial_stub.run(trial_stub.planned(data, tmp_path / "log"), tmp_path / "second")
    folder = RunFolder(second.run.folder)
    info = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**info, "created": "2027-01-01T00:00:00+00:00"}))
    files = []
    for name, result, gain in (("a", finished, 1), ("b", second, 0)):
        answers = trial_stub.answered(result, tmp_path / f"{name}-answers.json", lambda pair, gain=gain: gain)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_bytes(recorded(result, answers).to_bytes())

    (model,) = merge(files)
    arm = model.arms[0]
    assert model.records == 2 and arm.made == 24
    assert (arm.follows.value, arm.follows.n, arm.verdict) == (0.5, 12, "helps")
    assert "| miniature (" in markdown([model]) and "+0.50 (" in markdown([model])

    with pytest.raises(InputError, match="records of one trial"):
        merge([files[0], files[1], files[0]])
    other = trial_stub.run(trial_stub.planned(data, tmp_path / "log", scenes=3), tmp_path / "other")
    (tmp_path / "c.json").write_bytes(recorded(other).to_bytes())
    with pytest.raises(InputError, match=r"is of another plan than .*: other scenes"):
        merge([files[0], tmp_path / "c.json"])
