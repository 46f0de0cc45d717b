import json
from dataclasses import replace

import pytest

import trial_stub
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.trials import cost as cost_module
from alignvid.bench.trials.registration import TRIAL_FILE, registered
from alignvid.bench.trials.running import run_planned
from alignvid.errors import InputError, OutputError
from bench_stub import computed


def test_a_trial_says_its_cost_first_and_writes_nothing_without_consent(trial, tmp_path):
    said = []

    assert run_planned(trial, tmp_path / "new", consent=lambda cost: said.append(cost)) is None

    (cost,) = said
    assert (cost.clips, cost.there, cost.pairs, cost.peak_bytes) == (48, 0, 24, 1 << 30)
    steps = next(job.settings.steps for job in trial.plan.jobs)
    assert cost.hours == pytest.approx(36 * (1.0 + steps * 0.5) / 3600)  # 36 clips of a model, 12 stills
    assert not (tmp_path / "new").exists()


def test_a_finished_trial_is_a_run_of_the_benchmark_with_a_plan_that_was_written_before(finished):
    folder = finished.run.folder
    assert (finished.run.made, finished.run.failed) == (48, [])
    assert RunFolder(folder).info().variant_names == ["still", "baseline", "generic", "follow-0.4"]
    assert registered(folder) == finished.registration and finished.registration.primary == "generic"
    assert {count.metric: count.measured for count in finished.measured.counts} == {
        "dynamic_degree_dis": 48,
        "temporal_flickering": 48,
    }


def test_a_stopped_trial_is_resumed_without_asking_again_and_makes_no_clip_twice(data, tmp_path):
    trial = trial_stub.planned(data, tmp_path / "log")
    made = []

    def stop(record):
        made.append(record.job)
        if len(made) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_planned(trial, tmp_path / "out", on_record=stop)
    result = run_planned(trial, tmp_path / "out", consent=lambda cost: pytest.fail("asked again"))

    assert result.run.done_before == 5 and result.run.made == 43
    assert sorted(computed(tmp_path / "log")) == sorted(job.id for job in trial.plan.jobs)


def test_another_plan_in_the_folder_is_refused_and_so_is_one_that_was_changed(trial, data, finished, tmp_path):
    other = trial_stub.planned(data, tmp_path / "log", seeds=(0, 1))
    with pytest.raises(InputError, match="a trial of another plan, which differs in seeds"):
        run_planned(other, finished.run.folder)

    values = json.loads((finished.run.folder / TRIAL_FILE).read_text())
    values["plan"]["primary"] = "follow-0.4"
    (tmp_path / TRIAL_FILE).write_text(json.dumps(values))
    with pytest.raises(InputError, match="was changed after the plan was written down"):
        run_planned(trial, tmp_path)


def test_a_run_that_is_no_trial_a_full_disk_and_a_folder_that_cannot_be_are_refused(trial, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="holds a run that is no trial"):
        run_planned(trial, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write into"):
        run_planned(trial, tmp_path / "file" / "out")
    usage = cost_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cost_module.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"may take 0\.1 MiB, and 0\.0 MiB are free"):
        run_planned(trial, tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_guidance_that_the_timed_clip_had_not_costs_a_second_pass(trial):
    job = next(job for job in trial.plan.jobs if job.variant.name == "baseline")
    raised = replace(job, settings=replace(job.settings, guidance=3.0))
    timed = trial_stub.TimedStub(None).timed(job, b"")
    one, two = (cost_module._seconds(each, job, timed) for each in (job, raised))
    assert two - timed.other_s == 2 * (one - timed.other_s)
