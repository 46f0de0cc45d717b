"""The rates of an exact audit beside the scores of a run that the same judge has judged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alignvid.bench.audits.audit import answered_questions
from alignvid.bench.audits.exact_file import counts, read_exact
from alignvid.bench.data.omitshapes import image_of
from alignvid.bench.judges.base import JudgeOptions
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.judges.registry import open_judge
from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from alignvid.cli.main import main
from alignvid.errors import InputError
from alignvid.report.benchmark import write_report
from alignvid.report.exact import audit_tables
from judged_folders import sample_of, write_run
from rendered_runs import rendered_run


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A judged run of rendered OmitShapes, and the file of an exact audit of its judge."""
    folder = tmp_path_factory.mktemp("audited")
    run = rendered_run(folder / "run")
    for sample in run.samples():
        run.write_image(sample.image_path, image_of(sample).content)
    judge_run(run, open_judge("rule", JudgeOptions()), limit=None, on_answer=lambda row, count: None)
    with pytest.raises(SystemExit):
        main(["bench", "audit", str(folder / "exact"), "--exact", "--judge", "rule", "--count", "6", "--json"])
    (file,) = (folder / "exact").glob("exact-*.json")
    return run, file


def test_a_run_of_the_same_clips_is_shown_with_the_rates_and_without_the_errors(audited):
    run, file = audited
    card = score_run(run, Asked(), {})
    facts = read_exact(file, card.run.judging)
    rates, corrected = audit_tables(card, facts)
    assert rates.title == "The judge's errors" and rates.rows[0][0] == "sensitivity"
    assert [row[0] for row in corrected.rows] == ["baseline", "alignvid"]
    assert counts(facts).sum() == 6 * 3 * 2
    page = write_report(run.path, run.path / "report", card, facts).page.read_text(encoding="utf-8")
    assert "Accuracy without the judge&#39;s errors" in page or "Accuracy without the judge's errors" in page


def test_errors_that_are_known_are_taken_out_of_the_score(audited):
    run, file = audited
    card = score_run(run, Asked(), {})
    # it says yes to a tenth of what is false: so many of the yes that it gave are taken for nothing
    facts = read_exact(file, card.run.judging) | {"hits": 100, "misses": 0, "false_alarms": 10, "rejections": 90}
    _, corrected = audit_tables(card, facts)
    own = [item for item in answered_questions(card.run) if item.variant == "baseline"]
    shares = []
    for sample in {item.sample.id for item in own}:
        asked = [item for item in own if item.sample.id == sample]
        yes = [item.verdict is Verdict.YES for item in asked]
        expects = [item.question.expected_answer == "yes" for item in asked]
        both = [
            float(np.mean(values))
            for values in (expects, np.logical_and(expects, yes), np.logical_and(np.logical_not(expects), yes))
        ]
        shares.append(both)
    expects_yes, rightly, wrongly = np.mean(shares, axis=0)
    truly = np.clip((rightly - 0.1 * expects_yes) / 0.9, 0, expects_yes)
    still = np.clip((wrongly - 0.1 * (1 - expects_yes)) / 0.9, 0, 1 - expects_yes)
    expected = 100 * (truly + 1 - expects_yes - still)
    assert float(corrected.rows[0][2].split()[0]) == pytest.approx(expected, abs=0.05)
    assert float(corrected.rows[0][1]) == pytest.approx(100 * (rightly + 1 - expects_yes - wrongly), abs=0.05)


def test_scores_of_other_data_are_not_corrected(tmp_path, audited):
    _, file = audited
    run = write_run(tmp_path / "run", [sample_of(n) for n in range(3)])
    info = run.info()
    run.write_plan(type(info)(**{**vars(info), "data": {**info.data, "name": "omiti2v"}}), run.samples())
    card = score_run(run, Asked(), {})
    values = json.loads(file.read_text()) | card.run.judging._asdict()
    (tmp_path / "audit.json").write_text(json.dumps(values))
    (rates,) = audit_tables(card, read_exact(tmp_path / "audit.json", card.run.judging))
    assert "flat shapes are no photographs, and the scores are not corrected" in rates.note


def test_without_an_audit_nothing_is_added(audited):
    assert audit_tables(score_run(audited[0], Asked(), {}), None) == []


def test_an_audit_of_another_judge_or_none_is_refused(tmp_path, audited):
    run, file = audited
    judging = score_run(run, Asked(), {}).run.judging
    with pytest.raises(InputError, match=r"is an audit of rule, protocol rule.*and this is judged by other"):
        read_exact(file, judging._replace(judge="other"))
    for content in ("[]", "{", "{}"):
        (tmp_path / "audit.json").write_text(content)
        with pytest.raises(InputError, match=r"audit\.json"):
            read_exact(tmp_path / "audit.json", judging)
    with pytest.raises(InputError, match=r"give the exact-….json of an exact audit"):
        read_exact(tmp_path / "absent.json", judging)
