"""docs/study*.py: what the plan compares can be had on the miniature, and tables and picture are made of it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from alignvid.bench.runs.variants import parse_variants
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import study  # noqa: E402  # docs is no package
import study_plan as plan  # noqa: E402


@pytest.fixture(scope="module")
def names():
    """Of the variants of each half, as a run has them."""
    model = sketch(find_model("miniature"))
    return {half: [one.name for one in parse_variants(variants, model)] for half, variants in plan.HALVES.items()}


def test_every_way_is_run_on_both_halves_and_every_trend_on_the_one_that_shows_it(names):
    strengths = {name for way in plan.STRENGTHS.values() for name in way}
    assert strengths <= set(names["claim"]) <= set(names["development"])
    assert {name for _, high, low, _ in plan.TRENDS for name in (high, low)} <= set(names["development"])
    assert set(plan.CURVES) <= set(plan.STRENGTHS) and names["claim"][:2] == [plan.BASELINE, plan.ALIGNVID]


def test_tables_and_picture_of_all_ways_are_made_from_rates(names, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    values = {name: {metric: rng.integers(0, 2, 8).astype(float) for metric in plan.METRICS} for name in names["claim"]}
    rates = study.Rates(8, 3, "made up", values)
    monkeypatch.setattr(study, "PICTURE", tmp_path / "study")
    study.picture(rates)
    assert (tmp_path / "study.svg").stat().st_size > 10_000
    table = study.equal_table(rates, rates)
    assert [line.split(" | ")[0][2:] for line in table.splitlines()[2:]] == list(plan.STRENGTHS)
