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


def by_name(names: Iterable[str]) -> list[Any]:
    """Names of pipelines as parameters of a test, those on request marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in ON_REQUEST else name for name in names]
