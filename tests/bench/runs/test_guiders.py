"""Guiders of diffusers as variants: the modular pipeline on the same models, the same where both do the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline

import alignvid
import pipelines
from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.running import run
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.variants import Variant, parse_variant
from alignvid.errors import AlignvidError, InputError
from alignvid.generate.guiders import GUIDERS, check_guider, guided_pipeline, run_guided
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.media.videos import read_video
from bench_stub import write_data
from worded import give_encoders

STEPS = 10
"""With fewer, the guiders that disturb a block begin after they have ended."""


def spec(data, *variants, **fields):
    return BenchSpec(data=str(data), variants=variants, **{"steps": STEPS, "limit": 1, **fields})


def test_a_guider_is_written_by_its_name_or_as_a_setting():
    model = sketch(find_model("miniature"))
    assert parse_variant("guider:apg", model) == Variant("guider:apg", guider="apg")
    both = parse_variant("both: gamma=1.5 guider=apg guidance=3", model)
    assert (both.guider, both.guidance) == ("apg", 3.0) and both.recipe is not None
    assert Variant.from_dict(both.to_dict()) == both


@pytest.mark.parametrize(
    "builder",
    [pytest.param(pipelines.wan_i2v, marks=pytest.mark.slow), pipelines.wan_t2v],
    ids=lambda builder: builder.__name__,
)
def test_plain_guidance_by_a_guider_is_the_normal_pipelines_with_a_gain_too_and_other_guiders_are_not(builder):
    pipe, call = builder()
    give_encoders(pipe, call)
    words = {name: value for name, value in call.items() if "embeds" not in name}
    words |= {"prompt": "zq yes", "negative_prompt": "no", "num_inference_steps": STEPS, "guidance_scale": 3.0}

    def made(runner, name=None):
        arguments = words | {"generator": torch.Generator().manual_seed(1), "output_type": "np"}
        with torch.no_grad():
            return np.asarray((runner(**arguments) if name is None else run_guided(runner, arguments)).frames[0])

    plain = made(pipe)
    of = {name: guided_pipeline(pipe, name, 3.0) for name in GUIDERS}
    clips = {name: made(modular, name) for name, modular in of.items()}
    changed = {name: float(np.abs(clip - plain).max()) for name, clip in clips.items()}
    rounding = changed.pop("cfg")
    assert rounding < 1e-6 and min(changed.values()) > 2e-6, changed  # random weights heed the text little
    recipe = {"gamma": 3.0, "blocks": "all", "steps": "all", "streams": ["self.video"]}
    with alignvid.attach(pipe, "generic", **recipe):
        gained = made(pipe)
    with alignvid.attach(of["cfg"], "generic", **recipe):
        np.testing.assert_allclose(made(of["cfg"], "cfg"), gained, atol=1e-5)
    assert np.abs(gained - plain).max() > 1e-3
    np.testing.assert_array_equal(made(pipe), plain)


@pytest.mark.slow  # six clips of ten guided steps
def test_a_run_with_guiders_makes_the_clips_of_the_normal_pipeline_where_both_do_the_same(tmp_path):
    data = write_data(tmp_path / "data", 1)
    names = ["guidance=3", *(f"{name}: guider={name} guidance=3" for name in ("cfg", "apg", "slg"))]
    names += ["gain: gamma=2.5 guidance=3", "gain cfg: gamma=2.5 guider=cfg guidance=3"]
    made = run(spec(data, *names), tmp_path / "run")
    assert [row.error for row in made.failed] == []
    jobs = make_plan(spec(data, *names)).jobs
    files = {job.variant.name: tmp_path / "run" / "videos" / f"{job.id}.mp4" for job in jobs}
    clips = {name: read_video(file).frames.astype(int) for name, file in files.items()}
    plain = clips["guidance=3"]
    assert np.abs(clips["cfg"] - plain).max() <= 2  # a level or two of rounding, encoded
    assert np.abs(clips["gain cfg"] - clips["gain"]).max() <= 2
    changed = {name: int(np.abs(clips[name] - plain).max()) for name in ("apg", "slg", "gain")}
    assert min(changed.values()) > 2, changed


@pytest.mark.parametrize(
    ("name", "kind", "index", "guidance", "steps", "message"),
    [
        ("magic", WanPipeline, {}, 3.0, 50, "'magic' is unknown; choose one of cfg, apg"),
        (
            "seg",
            WanPipeline,
            {},
            3.0,
            50,
            "'seg' does not work on Wan in diffusers: the disturbed pass .* choose one of",
        ),
        ("apg", int, {}, 3.0, 50, "with one transformer, whose models .* int is another"),
        ("apg", WanPipeline, {"transformer_2": ["diffusers", "W"]}, 3.0, 50, "here has two"),
        ("apg", WanPipeline, {"expand_timesteps": True}, 3.0, 50, "here has a timestep for each token"),
        ("apg", WanImageToVideoPipeline, {}, 1.0, 50, "nothing to guide at guidance 1.0; add guidance=5"),
        ("slg", WanImageToVideoPipeline, {}, 3.0, 4, "which is none of 4; give 10 steps or more"),
    ],
)
def test_a_guider_that_cannot_run_or_would_do_nothing_is_one_sentence(name, kind, index, guidance, steps, message):
    with pytest.raises(AlignvidError, match=message):
        check_guider(name, kind, index, guidance=guidance, steps=steps)


def test_a_guider_and_a_batch_or_a_schedule_exclude_each_other(tmp_path):
    data = write_data(tmp_path / "data", 1)
    with pytest.raises(InputError, match="guider and --batch exclude each other"):
        make_plan(spec(data, "guider=apg guidance=3", batch=2))
    with pytest.raises(InputError, match="guider and cfg_high exclude each other"):
        make_plan(spec(data, "guider=apg guidance=3 cfg_high=1"))


def test_every_guider_is_a_class_of_diffusers():
    from diffusers import guiders

    assert all(hasattr(guiders, known.kind) for known in GUIDERS.values())
