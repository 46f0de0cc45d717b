"""Sheets for looking at the judge: every clip is on them, and a comparison that is not complete is refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from click.testing import CliRunner

from alignvid.miniature.drawing import render
from alignvid.miniature.evaluate import Outcome, trials
from alignvid.miniature.scenes import DEVELOPMENT
from alignvid.miniature.training.sheets import COLUMNS, ENLARGE, GAP, TEXT_HEIGHT, main, sheet


def test_a_sheet_shows_the_first_and_the_last_frame_of_each_clip() -> None:
    cases = trials(DEVELOPMENT, COLUMNS + 1)
    clips = [render(case.scene) for case in cases]
    page = np.asarray(sheet(cases, clips))
    height, width = clips[0].shape[1:3]
    row, column = ENLARGE * height + TEXT_HEIGHT + GAP, 2 * ENLARGE * width + GAP
    assert page.shape == (2 * row, COLUMNS * column, 3)
    second_row = page[row : row + ENLARGE * height : ENLARGE, : 2 * ENLARGE * width : ENLARGE]
    assert np.array_equal(second_row, np.concatenate([clips[-1][0], clips[-1][-1]], axis=1))


def test_an_incomplete_comparison_is_refused(tmp_path) -> None:
    outcome = Outcome("baseline", 0, 0, "add", "add a red circle", True, True, ())
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps({"schema_version": 1, **asdict(outcome)}) + "\n")
    arguments = ["--variant", "baseline", "--records", str(records), "--count", "3", "--out", str(tmp_path / "out")]
    problem = CliRunner().invoke(main, arguments).exception
    assert "lacks 2 of 3 scenes of 'baseline'" in str(problem)
    assert not (tmp_path / "out").exists()
