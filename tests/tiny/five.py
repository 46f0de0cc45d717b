"""The five pipelines that the matrix of combinations runs, and the recipe that it attaches."""

from __future__ import annotations

import pytest

from alignvid import BlockSet, Recipe, Scalar, StepWindow
from registry import BUILDERS

FIVE = ("wan_i2v", "framepack_v1", "cogvideox_i2v", "flux_kontext", "qwen_image_edit")
RECIPE = Recipe(Scalar(1.35, {"*.*": 1.0, "*.text": 2.0}), BlockSet.of("all"), StepWindow.fraction(0.0, 0.5))

SLOW_BUT_TWO = {name: () if name in ("wan_i2v", "flux_kontext") else (pytest.mark.slow,) for name in FIVE}
"""Marks: one pipeline with cross-attention and one with joint attention run every time, the others on request."""

__all__ = ["BUILDERS", "FIVE", "RECIPE", "SLOW_BUT_TWO"]
