"""The floor: what a judge gives a picture that stands still, its warning, and motion beside each score."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from alignvid.report.benchmark import write_report
from alignvid.report.floor import floor_sentences
from alignvid.report.tables import metric_tables, sentences
from judged_folders import moving_square, sample_of, write_run, wrong


def card_of(folder, still_is_right_about, metrics=None):
    """A run of `still` and `alignvid`: the second is right about half of six samples."""

    def decide(sample, variant, seed, question):
        number = int(sample.id.split("_")[1])
        is_right = number < (still_is_right_about if variant == "still" else 3)
        return Verdict(question.expected_answer) if is_right else wrong(question)

    run = write_run(
        folder / "run",
        [sample_of(n) for n in range(6)],
        variants=("still", "alignvid"),
        decide=decide,
        metrics=metrics or {},
        clip=moving_square(4),
    )
    info = run.info()
    facts = [
        {**variant, "settings": {"still": True}} if variant["name"] == "still" else variant for variant in info.variants
    ]
    run.write_plan(replace(info, variants=facts), run.samples())
    return score_run(run, Asked(), {})


def test_a_still_clip_that_gets_less_is_the_floor_and_no_warning(tmp_path):
    card = card_of(tmp_path, still_is_right_about=1)
    assert floor_sentences(card) == ["Floor: still, one picture repeated, gets 16.7 % of this judge."]
    assert floor_sentences(card)[0] in sentences(card)


@pytest.mark.parametrize("right", [3, 5])
def test_a_judge_that_passes_a_still_clip_is_warned_of_on_the_page(tmp_path, right):
    card = card_of(tmp_path, still_is_right_about=right)
    _, warning = floor_sentences(card)
    assert "passes still, in which nothing happens, as often as alignvid or more" in warning
    assert "alignvid bench audit FOLDER --exact" in warning
    page = write_report(tmp_path / "run", tmp_path / "report", card).page.read_text(encoding="utf-8")
    assert "passes still, in which nothing happens" in page


def test_without_a_still_variant_nothing_is_said(tmp_path):
    card = card_of(tmp_path, still_is_right_about=5)
    facts = [{**variant, "settings": {}} for variant in card.run.info.variants]
    plain = replace(card, run=replace(card.run, info=replace(card.run.info, variants=facts)))
    assert floor_sentences(plain) == []


def test_the_share_of_clips_that_move_stands_beside_the_judges_score(tmp_path):
    moving = {"dynamic_degree_dis": lambda sample, variant, seed: float(variant != "still")}
    card = card_of(tmp_path, still_is_right_about=1, metrics=moving)
    table = metric_tables(card)[0]
    assert (table.title, table.headings[:2]) == ("Judge and motion", ("variant", "accuracy % [95 %]"))
    assert [(row[0], row[2].split()[0]) for row in table.rows] == [("still", "0.0000"), ("alignvid", "1.0000")]


def test_without_flow_there_is_no_such_table(tmp_path):
    card = card_of(tmp_path, still_is_right_about=1, metrics={"flicker": lambda sample, variant, seed: 0.5})
    assert "Judge and motion" not in [table.title for table in metric_tables(card)]
