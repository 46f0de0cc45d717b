"""The exact audit: clips and questions of known truth, rates by hand, judges that are blind, biased or right."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from alignvid.bench.audits.exact import DATA, HALF, SHOWINGS, elsewhere, exact_samples, write_clips
from alignvid.bench.audits.rates import KnownAnswer, rates, with_truth
from alignvid.bench.data.claims import Claim
from alignvid.bench.judges.base import Judge, JudgeIdentity, JudgeOptions, Reply
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.judges.registry import open_judge
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.verdicts import Verdict
from alignvid.cli.main import main
from alignvid.errors import InputError
from alignvid.miniature.drawing import FRAMES, render
from rendered_runs import rendered_run

COUNT = 12


@pytest.fixture(scope="module")
def samples():
    return exact_samples(COUNT)


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("exact"))
    write_clips(run, samples)
    return run


def test_each_scene_is_asked_a_claim_and_its_denial_of_which_one_is_true_of_every_clip(samples):
    for item in samples:
        claim, denial = item.sample.questions
        assert (claim.category, denial.category) == ("claim", "denial")
        for showing in SHOWINGS[:3]:
            assert item.truth(showing, claim) is not item.truth(showing, denial)
        assert item.truth(HALF, claim) is None
        is_deleted = item.scene.edit.kind == "delete"
        assert item.truth("shown", claim) is not is_deleted and item.truth("not shown", claim) is is_deleted


def test_an_edit_elsewhere_changes_the_picture_and_not_the_answer(samples):
    for item in samples:
        claim = item.sample.questions[0]
        assert item.truth("elsewhere", claim) is item.truth("not shown", claim)
        assert elsewhere(item.scene).edited_shapes != item.scene.shapes
    assert {item.scene.edit.kind for item in samples} >= {"add", "delete"}


def test_half_an_edit_stands_still_half_way(samples):
    scene = samples[0].scene
    half, whole = render(scene, until=0.5), render(scene)
    assert np.array_equal(half[:4], whole[:4]) and not np.array_equal(half[-1], whole[-1])
    assert all(np.array_equal(frame, half[3]) for frame in half[3:]) and len(half) == FRAMES


def test_the_questions_are_plain_sentences(samples):
    texts = [question.question for item in samples for question in item.sample.questions]
    assert all(
        text.startswith(("Is there a ", "Is there no ")) and text.endswith(" at the end of the video?")
        for text in texts
    )
    assert not any("None" in text or "any" in text.split() for text in texts)


def answer(showing="shown", truth=True, verdict=Verdict.YES, *, sample="a", is_denial=False, p_yes=None):
    return KnownAnswer(sample, showing, is_denial, truth, verdict, p_yes)


def test_rates_by_hand():
    found = rates(
        [
            answer(verdict=Verdict.YES, p_yes=0.9),
            answer(verdict=Verdict.NO, p_yes=0.4, sample="b"),
            answer(truth=False, verdict=Verdict.YES, is_denial=True, p_yes=0.6),
            answer(truth=False, verdict=Verdict.NO, is_denial=True, p_yes=0.1, sample="b"),
            answer(HALF, None, Verdict.YES, sample="b"),
            answer(truth=True, verdict=Verdict.FAILED, sample="b"),
        ]
    )
    assert (found.answers, found.unparsed, found.failed) == (4, 0, 1)
    assert (found.sensitivity.value, found.specificity.value, found.yes_bias.value) == (0.5, 0.5, 0.0)
    assert (found.denial_bias.value, found.half_shown_yes.value) == (0.0, 1.0)
    assert found.brier is not None and found.brier.value == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert [(one.n, one.true_share) for one in found.bins] == [(1, 0.0), (1, 1.0), (1, 0.0), (1, 1.0)]


def test_an_answer_that_cannot_be_read_is_never_right_and_is_counted():
    found = rates([answer(verdict=Verdict.UNPARSED), answer(truth=False, verdict=Verdict.UNPARSED)])
    assert (found.unparsed, found.sensitivity.value, found.specificity.value) == (2, 0.0, 0.0)


@dataclass(frozen=True)
class Fixed(Judge):
    """Says one thing to everything."""

    verdict: Verdict
    p_yes: float | None = None

    @property
    def identity(self):
        return JudgeIdentity(judge=f"always {self.verdict}", protocol="fixed", settings={})

    def answer(self, cases, deliver):
        for case in cases:
            for question in case.questions:
                deliver(case, question, Reply(verdict=self.verdict, text="", p_yes=self.p_yes))


def judged(folder, samples, judge):
    tally = judge_run(folder, judge, limit=None, on_answer=lambda row, count: None)
    rows = [row for row in folder.answers() if row.judge == tally.identity.judge]
    return rates(with_truth(samples, folder.videos(), rows))


def test_a_judge_that_says_yes_to_everything_is_shown_to(folder, samples):
    found = judged(folder, samples, Fixed(Verdict.YES, 0.99))
    assert (found.sensitivity.value, found.specificity.value, found.yes_bias.value) == (1.0, 0.0, 0.5)
    assert found.denial_bias.value is not None and {name: one.value for name, one in found.accuracy.items()} == {
        "shown": 0.5,
        "not shown": 0.5,
        "elsewhere": 0.5,
    }
    assert found.brier is not None and found.brier.value == pytest.approx((0.99**2 + 0.01**2) / 2)
    assert (found.answers, found.half_shown_yes.n) == (COUNT * 3 * 2, COUNT)


def test_the_rule_judge_is_right_about_nearly_all_of_it(folder, samples):
    found = judged(folder, samples, open_judge("rule", JudgeOptions()))
    assert found.sensitivity.value is not None and found.sensitivity.value > 0.95
    assert found.specificity.value is not None and found.specificity.value > 0.95
    assert found.brier is None and found.bins == ()


def test_the_same_line_again_renders_and_asks_nothing(folder, samples):
    before = {file: file.stat().st_mtime_ns for file in (folder.path / "videos").iterdir()}
    write_clips(folder, samples)
    assert {file: file.stat().st_mtime_ns for file in (folder.path / "videos").iterdir()} == before
    judge_run(folder, open_judge("rule", JudgeOptions()), limit=None, on_answer=lambda row, count: None)
    tally = judge_run(folder, open_judge("rule", JudgeOptions()), limit=None, on_answer=lambda row, count: None)
    assert (tally.asked, tally.kept) == (0, COUNT * 4 * 2)


def test_another_run_is_not_written_into(tmp_path, samples):
    run = rendered_run(tmp_path / "run")
    with pytest.raises(InputError, match="holds a run of 'omitshapes'; give a new folder for --exact"):
        write_clips(run, samples)


def test_claims_of_the_questions_can_be_read_by_a_rule(samples):
    for item in samples:
        assert Claim.parse(item.sample.questions[0].id) == item.claim


def test_the_command_prints_and_keeps_the_rates(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "audit", str(tmp_path / "audit"), "--exact", "--judge", "rule", "--count", "3", "--json"])
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    assert (printed["judge"], printed["scenes"], printed["answers"]) == ("rule", 3, 18)
    (kept,) = (tmp_path / "audit").glob("exact-*.json")
    assert json.loads(kept.read_text()) == printed
    assert RunFolder(tmp_path / "audit").info().data["name"] == DATA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exact"], "--exact asks a judge; name one, such as --judge rule"),
        (["--model", "somewhere"], "--model is for --exact; leave it out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "audit", str(tmp_path), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
