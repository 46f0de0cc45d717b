"""Guiders of diffusers as variants: the modular pipeline on the same models, the same where both do the same."""

from __future__ import annotations

import numpy as np
import pytest

from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.running import run
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.variants import Variant, parse_variant
from alignvid.errors import AlignvidError, InputError
from alignvid.generate.guiders import GUIDERS, check_guider
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.media.videos import read_video
from bench_stub import write_data


def spec(data, *variants, **fields):
    return BenchSpec(data=str(data), variants=variants, steps=2, limit=1, **fields)


def test_a_guider_is_written_by_its_name_or_as_a_setting():
    model = sketch(find_model("miniature"))
    assert parse_variant("guider:apg", model) == Variant("guider:apg", guider="apg")
    both = parse_variant("both: gamma=1.5 guider=apg guidance=3", model)
    assert (both.guider, both.guidance) == ("apg", 3.0) and both.recipe is not None
    assert Variant.from_dict(both.to_dict()) == both


def test_plain_guidance_by_a_guider_is_the_normal_pipelines_and_another_guider_is_not(tmp_path):
    data = write_data(tmp_path / "data", 1)
    names = ["guidance=3", *(f"{name}: guider={name} guidance=3" for name in ("cfg", "apg", "slg"))]
    names += ["gain: gamma=2.5 guidance=3", "gain cfg: gamma=2.5 guider=cfg guidance=3"]
    made = run(spec(data, *names), tmp_path / "run")
    assert [row.error for row in made.failed] == []
    files = {
        job.variant.name: tmp_path / "run" / "videos" / f"{job.id}.mp4" for job in make_plan(spec(data, *names)).jobs
    }
    clips = {name: read_video(file).frames.astype(int) for name, file in files.items()}
    assert np.abs(clips["cfg"] - clips["guidance=3"]).max() <= 2  # a level or two of rounding, encoded
    assert np.abs(clips["gain cfg"] - clips["gain"]).max() <= 2
    assert all(np.abs(clips[name] - clips["guidance=3"]).max() > 5 for name in ("apg", "slg", "gain"))


class WanImageToVideoPipeline:
    """Its name is what is looked at."""


@pytest.mark.parametrize(
    ("name", "kind", "guidance", "has_two", "message"),
    [
        ("magic", WanImageToVideoPipeline, 3.0, False, "'magic' is unknown; choose one of cfg, apg"),
        ("apg", int, 3.0, False, "with one transformer, whose models .* int is another"),
        ("apg", WanImageToVideoPipeline, 3.0, True, "here has two"),
        ("apg", WanImageToVideoPipeline, 1.0, False, "nothing to guide at guidance 1.0; add guidance=5"),
    ],
)
def test_a_guider_that_cannot_run_is_one_sentence(name, kind, guidance, has_two, message):
    with pytest.raises(AlignvidError, match=message):
        check_guider(name, kind, guidance, has_two=has_two)


def test_a_guider_and_a_batch_or_a_schedule_exclude_each_other(tmp_path):
    data = write_data(tmp_path / "data", 1)
    with pytest.raises(InputError, match="guider and --batch exclude each other"):
        make_plan(spec(data, "guider=apg guidance=3", batch=2))
    with pytest.raises(InputError, match="guider and cfg_high exclude each other"):
        make_plan(spec(data, "guider=apg guidance=3 cfg_high=1"))


def test_every_guider_is_a_class_of_diffusers():
    from diffusers import guiders

    assert all(hasattr(guiders, known.kind) for known in GUIDERS.values())
