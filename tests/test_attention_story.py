"""docs/attention.md says what docs/attention.json holds, and that comes from the weights that are shipped."""

import json
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import attention_text as text  # noqa: E402  # docs is no package

DATA = json.loads((DOCS / "attention.json").read_text())
FIGURES = ("blocks", "steps", "change", "mass", "map", "sweep")


def test_the_page_says_what_the_data_hold_and_of_which_weights():
    page = text.PAGE.read_text("utf-8")
    part = text.written_part(DATA, shipped=text.shipped_sha256())
    assert text.with_written_part(page, part) == page, "run `make figures`, or at least `python docs/attention_text.py`"


def test_numbers_of_other_weights_are_marked():
    assert text.STALE in text.written_part(DATA, shipped="other")
    assert text.STALE not in text.written_part(DATA, shipped=DATA["transformer_sha256"])


def test_there_are_at_least_30_scenes():
    assert DATA["scenes"] >= 30


@pytest.mark.parametrize("name", [*(f"attention-{name}.svg" for name in FIGURES), "attention-prompt.png"])
def test_a_figure_is_there_is_shown_and_is_small(name):
    assert (DOCS / "images" / name).stat().st_size <= 300_000
    assert f"](images/{name})" in text.PAGE.read_text("utf-8")


@pytest.mark.parametrize("name", FIGURES)
def test_each_plot_is_there_as_png_too(name):
    assert (DOCS / "images" / f"attention-{name}.png").stat().st_size <= 300_000


@pytest.mark.parametrize(
    ("difference", "sign", "expected"),
    [
        ([0.2, 0.1, 0.3], 1, "seen"),
        ([-0.2, -0.3, -0.1], -1, "seen"),
        ([-0.2, -0.3, -0.1], 1, "**opposite**"),
        ([0.2, 0.1, 0.3], -1, "**opposite**"),
        ([0.2, -0.1, 0.3], 1, "not seen"),
        ([0.0, 0.0, 0.0], 1, "not seen"),
    ],
)
def test_a_verdict_follows_from_the_interval(difference, sign, expected):
    assert text.verdict(difference, sign) == expected


def test_every_claim_is_of_something_measured():
    assert all(DATA["differences"][claim.variant][claim.measure] for claim in text.PAPER)


def test_a_changed_number_changes_the_page():
    changed = json.loads(json.dumps(DATA))
    changed["differences"][text.ALIGNVID][text.TEXT] = [9.0, 8.0, 10.0]
    part = text.written_part(changed, shipped="")
    assert part != text.written_part(DATA, shipped="")
    assert "| AlignVid lowers the entropy of text attention | +9.0000 [+8.0000, +10.0000] | **opposite** |" in part
