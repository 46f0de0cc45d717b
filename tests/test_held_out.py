"""docs/held_out*.py: rates, agreement and what sheets showed, from records; docs/miniature.md says what they hold."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import held_out  # noqa: E402  # docs is no package
import held_out_page as page  # noqa: E402
import held_out_sheets as sheets  # noqa: E402


def row(scene: int, seed: int = 0, arm: str = held_out.BASELINE, **changes) -> held_out.Row:
    given = {"shown": True, "untouched": True, "asked_shown": True, "asked_untouched": True, **changes}
    return held_out.Row(arm=arm, noise_seed=seed, scene=scene, edit_kind="add", **given)


def test_agreement_counts_both_ways_of_differing_and_what_was_not_read():
    rows = [
        row(0),
        row(1, shown=False, cause="the ground"),
        row(2, asked_shown=False, cause="the prompt"),
        row(3, asked_shown=None, asked_untouched=None, cause="refused: No edit could be read"),
    ]
    text = page.agreement(rows)
    assert "| the edit | 1 | 0 | 1 | 1 | 1 | 25.0 [" in text
    assert "| the rest | 3 | 0 | 0 | 0 | 1 | 75.0 [" in text
    assert "the ground 1, the prompt 1, refused 1." in text


def test_a_difference_is_paired_by_scene_and_noise():
    arms = {
        held_out.BASELINE: {(seed, scene): row(scene, seed, shown=scene == 0) for seed in range(3) for scene in (0, 1)},
        "other": {(seed, scene): row(scene, seed, "other") for seed in range(3) for scene in (0, 1)},
    }
    line = page.comparison(arms, ("other",), 2).splitlines()[-1]
    assert line.startswith("| … minus the baseline | +50.0 [+0.0, +100.0] | +0.0 [+0.0, +0.0] | +50.0")


def test_a_missing_clip_is_no_rate():
    with pytest.raises(KeyError):
        page.table({held_out.BASELINE: {(0, 0): row(0)}}, held_out.BASELINE, 1, "both")


def test_clips_to_look_at_are_drawn_by_a_seed_from_what_fits(monkeypatch):
    found = {
        arm: {(seed, scene): row(scene, seed, arm, shown=scene % 2 == 0) for seed in range(3) for scene in range(80)}
        for arm in (held_out.BASELINE, held_out.PRESET)
    }
    monkeypatch.setattr(sheets, "rows", lambda folder: found)
    drawn, again = sheets.drawn(Path()), sheets.drawn(Path())
    assert drawn == again and {group.name: len(chosen) for group, chosen in drawn.items()} == {
        f"{arm}-{said}": 100 for arm in ("baseline", "preset") for said in ("accepted", "refused")
    }
    assert all(one.shown == group.is_accepted and one.arm == group.arm for group in drawn for one in drawn[group])


def test_what_was_seen_on_the_sheets_is_what_the_page_says():
    assert page.by_eye() in page.PAGE.read_text("utf-8"), "run `python docs/held_out.py page FOLDER`"


def test_the_distilled_one_is_compared_with_the_baseline_in_four_steps():
    arms = {
        arm: {(seed, 0): row(0, seed, arm, shown=arm == held_out.DISTILLED) for seed in range(3)}
        for arm in page.IN_FOUR
    }
    text = page.in_four(arms, 1)
    assert "| distilled | 4 | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] | +100.0 [" in text
    assert text.endswith("Its preset adds −100.0 [−100.0, −100.0] points of both to it.")
