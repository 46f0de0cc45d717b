"""Every tiny pipeline that the tests of families run, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import image_pipelines
import picture_pipelines
import pipelines
import video_pipelines

BUILDERS = {**pipelines.BUILDERS, **image_pipelines.BUILDERS, **picture_pipelines.BUILDERS, **video_pipelines.BUILDERS}

ON_REQUEST = {"anyflow_far", "ltx2_in_context", "ltx2_hdr"}
"""Pipelines that take long, or that differ little from another one: they run with --run-slow."""


def by_name(names: Iterable[str]) -> list[Any]:
    """Names of pipelines as parameters of a test, those on request marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in ON_REQUEST else name for name in names]
