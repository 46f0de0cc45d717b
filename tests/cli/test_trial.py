"""alignvid trial, on the real miniature, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import loras
import trial_stub
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.jobs import Task
from alignvid.bench.runs.running import RunResult
from alignvid.bench.runs.worker import PipelineWorker
from alignvid.bench.trials.planning import plan_trial
from alignvid.bench.trials.registration import registered
from alignvid.bench.trials.running import TrialResult
from alignvid.bench.trials.spec import TrialSpec
from alignvid.errors import InputError
from alignvid.generate.loading import find_model
from alignvid.generate.loras import load_loras
from alignvid.generate.model import load_model
from bench_stub import write_data
from terminals import on_terminal

SMALL = ("--data", "omitshapes", "--count", "2", "--seed", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (SMALL, "no terminal here to answer on; add --yes"),
        ((*SMALL, "--yes", "--arms", "baseline,nonesuch"), "Arm 'nonesuch' is unknown"),
        ((*SMALL, "--yes", "--seed", "x"), "--seed 'x' is no number"),
        pytest.param(
            (*SMALL, "--yes", "--lora", "gone.safetensors"),
            "The LoRA 'gone.safetensors' cannot be loaded",
            marks=pytest.mark.slow,  # the model is loaded first
        ),
        (("--data", "gone", "--yes"), "Data set 'gone' is not there"),
        ((*SMALL, "--yes", "--comfyui", "http://127.0.0.1:9"), "needs both --comfyui ADDRESS and --workflow FILE"),
    ],
    ids=["no terminal", "arm", "seed", "lora", "data", "half a comfyui"],
)
def test_a_trial_that_cannot_be_is_one_sentence_and_writes_nothing(alignvid, tmp_path, arguments, message):
    code, out, err = alignvid("trial", "run", *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "") and message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_trial_and_records_that_are_none_are_refused(alignvid, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    for arguments, message in (
        (("record", tmp_path), "holds no trial"),
        (("merge", tmp_path / "a.json"), "no record of a trial"),
        (("merge", tmp_path / "gone.json"), "does not exist"),
        (("merge",), "Missing argument"),
    ):
        code, out, err = alignvid("trial", *arguments)
        assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_a_trial_s_record_and_its_merge_print_the_verdict_of_every_arm(alignvid, tmp_path):
    trial = trial_stub.planned(write_data(tmp_path / "set", 12), tmp_path / "log")
    result = trial_stub.run(trial, tmp_path / "out")
    answers = trial_stub.answered(result, tmp_path / "answers.json")

    code, out, _ = alignvid("trial", "record", tmp_path / "out", "--answers", answers)
    assert code == 0 and "generic *" in out and "generic: helps, for it follows better" in out
    assert (tmp_path / "out" / "trial-sheet.jpg").is_file()
    record = tmp_path / "out" / "trial-record.json"
    code, out, _ = alignvid("trial", "merge", record, "--out", tmp_path / "table.md")
    assert code == 0 and "1 record" in out and "| generic * |" in (tmp_path / "table.md").read_text()
    code, out, _ = alignvid("trial", "merge", record, "--json")
    assert {arm["verdict"] for arm in json.loads(out)[0]["arms"]} == {"helps"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("steps", ["4", "10"])
def test_a_trial_of_the_miniature_runs_from_its_cost_to_its_record_with_a_judge(alignvid, tmp_path, steps):
    folder = tmp_path / "out"
    code, out, err = alignvid("trial", "run", *SMALL, "--steps", steps, "--out", folder, "--yes")
    assert code == 0 and "12 clips made" in out and "8 pairs" in out
    assert "left out  guidance: this set-up runs without guidance" in err and "from one step of" in err
    assert alignvid("bench", "judge", folder, "--judge", "rule")[0] == 0
    plan = registered(folder)
    result = TrialResult(plan, RunResult(folder, 12, 12), None)
    answers = trial_stub.answered(result, tmp_path / "answers.json")
    code, out, _ = alignvid("trial", "record", folder, "--answers", answers, "--json")
    arms = {arm["arm"]: arm for arm in json.loads(out)["arms"]}
    assert code == 0 and all(arm["acted"] == arm["made"] == 2 for arm in arms.values())
    assert arms["released"]["is_primary"] and arms["released"]["preset"].startswith("miniature")
    assert all(arm["judged"]["rule, rule"]["n"] == 2 and arm["time_ratio"] > 0 for arm in arms.values())
    assert {arm["verdict"] for arm in arms.values()} == {"not decided"}  # two scenes are too few
    again = alignvid("trial", "run", *SMALL, "--steps", steps, "--out", folder)  # resumed: nothing to ask
    assert again[0] == 0 and "0 clips made, 12 were there" in again[1]


@pytest.mark.slow  # the command on a terminal, with the model
def test_on_a_terminal_the_cost_is_said_and_asked_and_a_no_leaves_nothing(tmp_path):
    arguments = ("trial", "run", *SMALL, "--steps", "2", "--arms", "baseline,generic", "--out", "out")
    code, said = on_terminal(*arguments, cwd=tmp_path, columns=120, typed="n\n")
    assert (code, (tmp_path / "out").exists()) == (1, False) and "Nothing was run, and nothing was written." in said
    assert said.index("clips") < said.index("Begin? [y/N]") and re.search(r"\d [GM]iB", said)
    code, said = on_terminal(*arguments, cwd=tmp_path, columns=120, typed="y\n")
    assert code == 0 and "4 clips made" in said and (tmp_path / "out" / "blind" / "index.html").is_file()


@pytest.mark.slow
def test_times_and_memory_are_of_whole_runs_and_the_clips_those_of_a_benchmark_that_shares(tmp_path):
    trial = plan_trial(TrialSpec(scenes=2, seeds=(0,), steps=2, arms=("baseline", "generic")))
    jobs = [job for job in trial.plan.jobs if job.sample == trial.plan.samples[0]]
    picture = trial.plan.data.image_of(next(s for s in trial.plan.data.samples if s.id == jobs[0].sample.id)).content
    spec = trial.plan.spec
    alone, shared = PipelineWorker(spec), PipelineWorker(replace(spec, shares=True))
    followers = (jobs[1].variant,)
    one = [alone.run(Task((job,), ()), [picture])[0].record for job in jobs]
    other = [shared.run(Task((job,), followers if job is jobs[0] else ()), [picture])[0].record for job in jobs]
    assert [row.frames_sha256 for row in one] == [row.frames_sha256 for row in other]
    assert one[1].proof["forwards"] == 2 and one[1].peak_bytes > 1 << 20 and one[0].proof is None


@pytest.mark.slow
def test_a_lora_is_loaded_as_it_is_changes_the_clip_and_is_part_of_the_plan(tmp_path):
    spec = TrialSpec(scenes=2, seeds=(0,), steps=1, arms=("baseline", "generic"))
    model = load_model(find_model("miniature"), spec.bench().generation(), show_progress=False)
    weights = {f"transformer.{key}": value for key, value in loras.lora_of(model.pipeline.transformer, 0).items()}
    file = tmp_path / "four-steps.safetensors"
    safetensors.torch.save_file(weights, file)
    plain = model.pipeline.transformer.blocks[0].attn2.to_k.weight.clone()
    load_loras(model.pipeline, [str(file)])
    layer = model.pipeline.transformer.blocks[0].attn2.to_k
    assert torch.equal(layer.base_layer.weight, plain)
    (loaded,) = layer.lora_A.values()
    assert torch.equal(loaded.weight, weights["transformer.blocks.0.attn2.to_k.lora_A.weight"])
    file.with_name("no.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"The LoRA .* cannot be loaded"):
        load_loras(model.pipeline, [str(file.with_name("no.safetensors"))])

    with_lora, without = plan_trial(replace(spec, loras=(str(file),))), plan_trial(spec)
    assert not {job.id for job in with_lora.plan.jobs} & {job.id for job in without.plan.jobs}
    assert with_lora.registration.model["loras"][0].startswith("four-steps.safetensors@")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a signal that stands for Ctrl-C")
@pytest.mark.timeout(900)
def test_after_ctrl_c_a_trial_is_resumed_by_the_same_line(tmp_path):
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "alignvid", "trial", "run", *SMALL, "--steps", "2", "--out", str(folder), "--yes"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        command, **options, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    ) as process:
        while not list(folder.glob("videos/*.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, err = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, "") and "the same line makes the rest" in err.splitlines()[-1]
    there = len(RunFolder(folder).videos())
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and f"{there} were there" in done.stdout
    assert len(list((folder / "videos").glob("*.mp4"))) == 12 and Path(folder / "blind" / "index.html").is_file()
