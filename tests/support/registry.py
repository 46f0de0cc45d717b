"""Every tiny pipeline that the tests of families run, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import image_pipelines
import picture_pipelines
import pipelines
import reading_pipelines
import sibling_pipelines
import video_pipelines

SIBLINGS = {builder.__name__: builder for builder in sibling_pipelines.BUILDERS}
READING = {builder.__name__: builder for builder in reading_pipelines.BUILDERS}
BUILDERS = {
    **pipelines.BUILDERS,
    **image_pipelines.BUILDERS,
    **picture_pipelines.BUILDERS,
    **video_pipelines.BUILDERS,
    **SIBLINGS,
    **READING,
}

ON_REQUEST = {
    *SIBLINGS,
    "anyflow_far",
    "ltx2_in_context",
    "ltx2_hdr",
    "cosmos3_policy",
    "cosmos3_distilled",
    "ltx2_dfr",
    "easyanimate_inpaint",
    "visual_cloze",
    "ltx2_dfr_refine",
    "hunyuan_image_refiner",
    "bria_fibo2",
    "prx_pixel",
    "longcat_image",
    "pixart_alpha",
    "ideogram4_modular",
    "anima_img2img",
}
"""Pipelines that take long, or that differ little from another one: they run with --run-slow."""


MAIN = {"wan_i2v", "wan_t2v", "hunyuan_i2v_latent_concat", "framepack_v1", "flux_kontext", "sd3", "qwen_image_edit",
        "cogvideox_i2v"}  # fmt: skip
"""Pipelines that the ordinary tests run whatever happens."""
LEFT = {name for number, name in enumerate(BUILDERS) if number % 3} - MAIN
"""Two of three of the others: they run with --run-slow where a test has every pipeline."""


def by_name(names: Iterable[str]) -> list[Any]:
    """Names of pipelines as parameters of a test, those on request marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in ON_REQUEST else name for name in names]


def every_third(names: Iterable[str]) -> list[Any]:
    """As `by_name`, with those that are left to --run-slow marked, too; they come last."""
    names = list(names)
    left = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(LEFT.intersection(names))]
    return [*by_name(name for name in names if name not in LEFT), *left]
