import json
from collections import Counter
from dataclasses import replace

import pytest

from alignvid.bench.judges import JudgeOptions, judge_names, open_judge
from alignvid.bench.judges.base import Judge, JudgeIdentity, Reply, answer_in_turn
from alignvid.bench.judges.judging import Tally, judge_run
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.files import sha256_of_bytes
from rendered_runs import rendered_run


@pytest.fixture
def run(tmp_path):
    return rendered_run(tmp_path / "run")


class Scripted(Judge):
    """Says yes to everything, but fails as often as it is told."""

    def __init__(self, *, failures=0, **settings):
        self.failures, self.settings, self.asked = failures, settings, []

    @property
    def identity(self):
        return JudgeIdentity(judge="scripted", protocol="paper", settings=self.settings)

    def answer(self, cases, tell):
        answer_in_turn(cases, tell, self._replies)

    def _replies(self, case):
        for question in case.questions:
            self.asked.append((case.job, question.id))
            self.failures -= 1
            yield Reply.failed("no  reason") if self.failures >= 0 else Reply(verdict=Verdict.YES, text="Yes")


def judged(run, judge, limit=None):
    return judge_run(run, judge, limit=limit, on_answer=lambda row, count: None)


def opposite(sample):
    other = {"yes": "no", "no": "yes"}
    questions = [replace(item, expected_answer=other[item.expected_answer]) for item in sample.questions]
    return replace(sample, questions=tuple(questions))


def expected(run):
    return {(sample.id, item.id): item.expected_answer for sample in run.samples() for item in sample.questions}


def test_the_rule_judge_answers_rendered_clips_as_expected(run):
    judged(run, open_judge("rule", JudgeOptions()))

    variant = {row.job: row.variant for row in run.videos()}
    right = {name: [] for name in variant.values()}
    for row in run.answers():
        right[variant[row.job]].append(row.verdict == expected(run)[row.sample, row.question])
    assert all(right["alignvid"])
    assert not all(right["baseline"])


def test_the_rule_judge_never_looks_at_the_expected_answer(run):
    rule = open_judge("rule", JudgeOptions())
    judged(run, rule)
    before = {(row.job, row.question): row.verdict for row in run.answers()}
    run.write_plan(run.info(), [opposite(sample) for sample in run.samples()])
    (run.path / "answers.jsonl").unlink()

    judged(run, rule)

    assert {(row.job, row.question): row.verdict for row in run.answers()} == before


def test_the_rule_judge_fails_on_a_sample_of_another_data_set(run):
    lines = (run.path / "samples.jsonl").read_text().splitlines(keepends=True)
    sample = run.samples()[0].id
    (run.path / "samples.jsonl").write_text("".join(lines).replace(sample, "photo_1"))
    for path in (run.path / "videos").glob("*.json"):
        path.write_text(path.read_text().replace(sample, "photo_1"))

    tally = judged(run, open_judge("rule", JudgeOptions()))

    failed = [row for row in run.answers() if row.verdict == Verdict.FAILED]
    assert {row.sample for row in failed} == {"photo_1"}
    assert "no sample of OmitShapes" in failed[0].error
    assert tally.verdicts[Verdict.FAILED] == len(failed)


def test_a_second_call_asks_nothing(run):
    first = judged(run, Scripted())
    lines = (run.path / "answers.jsonl").read_bytes()

    second = judged(run, Scripted())

    assert (second.asked, second.kept) == (0, first.asked)
    assert second.verdicts == first.verdicts
    assert (run.path / "answers.jsonl").read_bytes() == lines


def test_what_failed_is_asked_again_and_nothing_else(run):
    assert judged(run, Scripted(failures=2)).verdicts[Verdict.FAILED] == 2
    again = Scripted()

    tally = judged(run, again)

    assert len(again.asked) == 2
    assert tally.verdicts[Verdict.FAILED] == 0
    assert [row.error for row in run.answers() if row.error] == []


def test_a_killed_judge_goes_on_with_the_same_line(run):
    def stop(row, count):
        if len(run.answers()) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_run(run, Scripted(), limit=None, on_answer=stop)
    path = run.path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # killed in the middle of a row

    rest = Scripted()
    judged(run, rest)

    keys = [(row["job"], row["question"]) for row in map(json.loads, path.read_text().splitlines())]
    assert len(keys) == len(set(keys)) == 2 * len(expected(run))  # two variants
    assert len(rest.asked) == len(keys) - 2


def test_other_settings_are_other_answers(run):
    judged(run, Scripted())
    tally = judged(run, Scripted(max_tokens=1))

    assert tally.kept == 0
    assert len({row.settings for row in run.answers()}) == 2


def test_settings_are_written_in_full_once(run):
    judged(run, Scripted(max_tokens=1))
    judged(run, Scripted(max_tokens=1))

    (row,) = run.judges()
    assert row.values == {"max_tokens": 1}
    assert {answer.settings for answer in run.answers()} == {row.settings}


def test_a_video_that_is_gone_or_changed_fails_and_is_not_shown(run):
    gone, changed, *rest = run.videos()
    (run.path / gone.file).unlink()
    (run.path / changed.file).write_bytes(b"something else")
    judge = Scripted()

    judged(run, judge)

    errors = {row.job: row.error for row in run.answers() if row.verdict == Verdict.FAILED}
    assert set(errors) == {gone.job, changed.job}
    assert "cannot be read" in errors[gone.job]
    assert "has changed since it was recorded" in errors[changed.job]
    assert {job for job, _ in judge.asked} == {row.job for row in rest}


def test_an_answer_to_another_video_does_not_count(run):
    judged(run, Scripted())
    record, *_ = run.videos()
    path = run.path / "videos" / f"{record.job}.json"
    path.write_text(path.read_text().replace(record.sha256, "0" * 64))

    tally = judged(run, Scripted())

    assert tally.verdicts[Verdict.FAILED] == tally.asked > 0


def test_a_broken_video_costs_only_its_own_questions(run):
    record, *_ = run.videos()
    broken = (run.path / record.file).read_bytes()[:300]
    (run.path / record.file).write_bytes(broken)
    path = run.path / "videos" / f"{record.job}.json"
    path.write_text(path.read_text().replace(record.sha256, sha256_of_bytes(broken)))

    judged(run, open_judge("rule", JudgeOptions()))

    failed = [row for row in run.answers() if row.verdict == Verdict.FAILED]
    assert {row.job for row in failed} == {record.job}
    assert "cannot be read" in failed[0].error


def test_a_job_without_a_video_is_missing_and_gets_no_row(run):
    record, *_ = run.videos()
    (run.path / "videos" / f"{record.job}.json").unlink()

    tally = judged(run, Scripted())

    questions = next(len(sample.questions) for sample in run.samples() if sample.id == record.sample)
    assert tally.verdicts[Verdict.MISSING] == questions
    assert record.job not in {row.job for row in run.answers()}


def test_a_limit_keeps_to_the_first_samples(run):
    judged(run, Scripted(), limit=1)

    assert {row.sample for row in run.answers()} == {run.samples()[0].id}


def test_two_processes_do_not_judge_one_run_at_a_time(run):
    def meanwhile(row, count):
        with pytest.raises(InputError, match="being judged by another process"):
            judged(run, Scripted())

    judge_run(run, Scripted(), limit=1, on_answer=meanwhile)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        RunFolder(tmp_path).info()


def test_the_built_in_judges_are_entry_points():
    assert {"rule", "transformers", "openai"} <= set(judge_names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tarot", {}, "There is no judge 'tarot'; choose from openai, rule, transformers"),
        ("rule", {"protocol": "paper"}, "knows no protocol 'paper'; choose from rule"),
        ("rule", {"model": "x"}, "'rule' takes no --model"),
        ("openai", {"device": "cuda"}, "'openai' takes no --device"),
        ("transformers", {"base_url": "http://x"}, "'transformers' takes no --base-url"),
        ("transformers", {"timeout_s": 1.0}, "'transformers' takes no --timeout"),
        ("openai", {"protocol": "rule"}, "knows no protocol 'rule'; choose from paper, logit"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(name, options, message):
    with pytest.raises(InputError, match=message):
        open_judge(name, JudgeOptions(**options))


class Saying(Scripted):
    """Says the same to everything."""

    def __init__(self, replies):
        super().__init__()
        self.given = replies

    def _replies(self, case):
        for index, _ in enumerate(case.questions):
            yield self.given[index % len(self.given)]


def test_a_judge_that_mostly_says_neither_is_warned_of(run):
    replies = [Reply(verdict=Verdict.UNPARSED, text="Hm"), Reply(verdict=Verdict.UNPARSED), Reply(verdict=Verdict.YES)]
    tally = judged(run, Saying(replies))

    unparsed, yes = tally.verdicts[Verdict.UNPARSED], tally.verdicts[Verdict.YES]
    assert unparsed > yes > 0
    assert f"{unparsed} of {unparsed + yes} replies say neither yes nor no (UNPARSED)" in tally.warning


def test_a_judge_that_mostly_answers_or_fails_is_not_warned_of(run):
    assert judged(run, Saying([Reply(verdict=Verdict.YES), Reply(verdict=Verdict.UNPARSED)])).warning is None
    assert Tally(Scripted().identity, Counter({Verdict.FAILED: 9}), 9, 0).warning is None


@pytest.mark.parametrize("p_yes", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_probability_that_cannot_be_fails_its_question_and_no_other(run, p_yes):
    judged(run, Saying([Reply(verdict=Verdict.YES, p_yes=p_yes), Reply(verdict=Verdict.YES, p_yes=1.0)]))

    rows = run.answers()
    assert {row.verdict for row in rows} == {Verdict.YES, Verdict.FAILED}
    assert all(row.p_yes is None and "as a probability" in row.error for row in rows if row.verdict is Verdict.FAILED)


def test_half_a_character_is_recorded_as_unknown(run):
    judged(run, Saying([Reply(verdict=Verdict.YES, text="Yes \ud800"), Reply.failed("odd \udfff")]))

    assert {row.reply for row in run.answers()} == {"Yes \ufffd", None}
    assert {row.error for row in run.answers()} == {"odd \ufffd", None}
