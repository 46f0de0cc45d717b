"""Variants that bring other prompts, other pictures, a guidance schedule, or no model at all."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.jobs import Task
from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.running import run
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.variants import Variant, parse_variant
from alignvid.bench.runs.worker import PipelineWorker
from alignvid.errors import InputError
from alignvid.generate.guidance import check_schedule, guided_until
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.media.videos import read_video
from bench_stub import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "set", 2)


@pytest.fixture(scope="module")
def model():
    return sketch(find_model("miniature"))


@pytest.fixture
def others(tmp_path):
    """A file of prompts and a folder of pictures for both samples."""
    rows = [{"id": f"sample_{index}", "prompt": f"a red hat, number {index}"} for index in range(2)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "edited").mkdir()
    for index, suffix in enumerate((".png", ".jpg")):
        Image.new("RGB", (48, 48), (0, 200, index)).save(tmp_path / "edited" / f"sample_{index}{suffix}")
    return tmp_path


def spec(data, *variants, **fields):
    return BenchSpec(data=str(data), variants=variants, steps=2, **fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("still", Variant("still", still=True)),
        ("cfg: guidance=5 cfg_high=8", Variant("cfg", guidance=5.0, cfg_high=8)),
        ("rewritten: prompts=p.jsonl", Variant("rewritten", prompts="p.jsonl")),
        ("edited: images=folder prompts=p.jsonl", Variant("edited", images="folder", prompts="p.jsonl")),
    ],
)
def test_they_are_written_as_other_variants_and_read_back_from_a_plan(model, text, expected):
    assert parse_variant(text, model) == expected
    assert Variant.from_dict(expected.to_dict()) == expected


def test_other_inputs_go_with_a_recipe(model):
    variant = parse_variant("both: gamma=1.5 images=folder", model)
    assert variant.recipe is not None and (variant.recipe.gamma, variant.images) == (1.5, "folder")


def test_jobs_have_the_other_prompt_and_picture_and_the_questions_stay(data, others):
    texts = ("baseline", f"rewritten: prompts={others}/prompts.jsonl", f"edited: images={others}/edited")
    plan = make_plan(spec(data, *texts))
    jobs = {(job.variant.name, job.sample.id): job for job in plan.jobs}
    assert len({job.id for job in plan.jobs}) == 6
    plain = jobs["baseline", "sample_1"]
    rewritten, edited = jobs["rewritten", "sample_1"], jobs["edited", "sample_1"]
    assert (plain.sample.prompt, rewritten.sample.prompt) == ("the cat puts on a hat", "a red hat, number 1")
    assert rewritten.image == plain.image == "images/sample_1.png"
    digest = hashlib.sha256((others / "edited" / "sample_1.jpg").read_bytes()).hexdigest()[:8]
    assert edited.image == f"images/sample_1.{digest}.jpg" and edited.sample.prompt == plain.sample.prompt
    assert rewritten.noise_seed == edited.noise_seed == plain.noise_seed
    assert {sample.prompt for sample in plan.samples} == {"the cat puts on a hat"}
    folder = RunFolder(others / "run")
    folder.path.mkdir()
    plan.write(folder)
    assert (folder.path / edited.image).read_bytes() == (others / "edited" / "sample_1.jpg").read_bytes()


ERRORS = {
    "prompts=absent.jsonl": "prompts 'absent.jsonl'.*give a JSON Lines file of id and prompt",
    "prompts={}/one.jsonl": "has no prompt for the sample 'sample_1'; add a line, or choose fewer with --limit",
    "prompts={}/twice.jsonl": "twice.jsonl', line 2: the id 'sample_0' is there twice",
    "prompts={}/empty.jsonl": "line 1: the prompt of 'sample_0' is empty",
    "prompts={}/odd.jsonl": "no field 'promt'",
    "images={}/absent": "has no picture for the sample 'sample_0'; name it sample_0.png",
    "images={}/broken": "broken/sample_0.png",
    "cfg_high=2": "cfg_high=2 needs guidance to end, but guidance is 1",
    "guidance=5 cfg_high=0": "cfg_high=0 leaves no step with guidance",
    "guidance=5 cfg_high=1.5": "cfg_high=1.5 is no number of steps",
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_is_wrong_is_said_before_a_model_is_loaded(data, others, text):
    line = json.dumps({"id": "sample_0", "prompt": "a hat"}) + "\n"
    (others / "one.jsonl").write_text(line)
    (others / "twice.jsonl").write_text(line + line)
    (others / "empty.jsonl").write_text(json.dumps({"id": "sample_0", "prompt": " "}))
    (others / "odd.jsonl").write_text(json.dumps({"id": "sample_0", "promt": "a hat"}))
    (others / "broken").mkdir()
    (others / "broken" / "sample_0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=ERRORS[text]):
        make_plan(spec(data, text.format(others)))


def test_still_is_the_reference_picture_for_the_whole_clip_and_runs_no_model(data, tmp_path):
    plan = make_plan(spec(data, "still", "baseline"))
    job = next(job for job in plan.jobs if job.variant.still and job.sample.id == "sample_1")
    worker = object.__new__(PipelineWorker)  # without its model, which must not be asked
    worker.spec = plan.spec
    ((record, video),) = worker.run(Task((job,), ()), [(data / "1.png").read_bytes()])
    assert (record.status, record.frames) == ("done", job.settings.frames)
    path = tmp_path / "still.mp4"
    path.write_bytes(video or b"")
    frames = read_video(path).frames
    assert len(frames) == job.settings.frames and all(np.array_equal(frame, frames[0]) for frame in frames)
    assert np.abs(frames[0].reshape(-1, 3).mean(0) - [1, 0, 0]).max() < 4  # the picture's colour, through the encoder


def test_guidance_ends_after_the_steps_that_were_asked_for():
    class Pipeline:
        _guidance_scale = 5.0

    pipeline, after = Pipeline(), guided_until(2)
    seen = []
    for step in range(4):
        seen.append(pipeline._guidance_scale)
        after(pipeline, step, 0, {})
    assert seen == [5.0, 5.0, 1.0, 1.0]


def test_a_pipeline_that_decides_once_for_all_steps_is_refused():
    from diffusers import CogVideoXPipeline

    with pytest.raises(InputError, match="CogVideoXPipeline decides once for all steps"):
        check_schedule(CogVideoXPipeline, 4, 5.0)


def test_a_run_with_all_of_them_makes_a_video_of_each_and_fewer_forwards_where_guidance_ends(data, others):
    texts = (
        "baseline",
        "still",
        "cfg: guidance=3",
        "high: guidance=3 cfg_high=1",
        f"rewritten: prompts={others}/prompts.jsonl",
        f"edited: images={others}/edited",
    )
    result = run(spec(data, *texts, limit=1), others / "run")
    assert (result.made, result.failed) == (6, [])
    rows = {row.variant: row for row in RunFolder(others / "run").videos()}
    assert len({row.frames_sha256 for row in rows.values()}) == 6
    assert RunFolder(others / "run").info().variants[1] == {
        "name": "still",
        "recipe": None,
        "settings": {"still": True},
    }


def test_a_batch_ends_guidance_alike(data, others):
    texts = ("high: guidance=3 cfg_high=1", "cfg: guidance=3", "still")
    alone = run(spec(data, *texts), others / "alone")
    batch = run(spec(data, *texts, batch=2), others / "batch")
    assert (alone.failed, batch.failed) == ([], [])
    by_batch = {(row.sample, row.variant): row for row in RunFolder(others / "batch").videos()}
    assert len({row.frames_sha256 for row in by_batch.values()}) == 6
    for row in RunFolder(others / "alone").videos():
        if row.variant == "still":
            assert row.frames_sha256 == by_batch[row.sample, row.variant].frames_sha256
