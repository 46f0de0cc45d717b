"""Answers of a server that have the form of one and hold no verdict: each says why, and is not asked for again."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from alignvid.bench.judges import JudgeOptions, frames, open_judge, server
from alignvid.bench.judges.endpoint import retry_after_s
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from rendered_runs import rendered_run
from stub_server import stub_server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short waits, and frames that need not be enlarged much."""
    monkeypatch.setattr(server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(frames, "_MIN_TOKENS", 4)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path):
    return rendered_run(tmp_path / "run", samples=1)


def judged(run, behave, **options):
    """The run's rows, and the number of requests."""
    with stub_server(behave) as (stub, address):
        judge = open_judge("openai", JudgeOptions(base_url=address, **options))
        judge_run(run, judge, limit=None, on_answer=lambda row, count: None)
    return run.answers(), len(stub.exchanges)


THOUGHT = {"reasoning_content": "The ball … it is"}


@pytest.mark.parametrize(
    ("content", "finish", "message", "reason"),
    [
        (None, "length", THOUGHT, "the model thought until the limit of tokens and gave no answer"),
        ("", "length", {"reasoning": "Hm."}, "the model thought until the limit of tokens"),
        (None, "length", {}, "the model reached the limit of tokens and gave no answer"),
        (None, "stop", THOUGHT, "the model thought and gave no answer"),
        (None, "stop", {"refusal": "I must  not."}, "the model refused: I must not."),
        ([{"type": "refusal", "refusal": "No faces."}], "stop", {}, "the model refused: No faces."),
        (None, "content_filter", {}, "the server's content filter kept the answer back"),
        (None, "tool_calls", {}, "the model called a tool"),
        (None, "stop", {"tool_calls": [{"id": "1", "type": "function"}]}, "the model called a tool"),
        ([], "length", {}, "reached the limit of tokens"),
    ],
)
def test_a_reply_without_text_fails_with_its_reason_after_one_attempt(run, content, finish, message, reason):
    rows, requests = judged(run, lambda exchange: exchange.say(content, finish=finish, **message))

    assert {row.verdict for row in rows} == {Verdict.FAILED}
    assert all(reason in row.error for row in rows)
    assert requests == len(rows)
    assert {row.attempts for row in rows} == {1}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Yes, it does."}],
        [{"type": "text", "text": "Yes"}, {"type": "text", "text": ", it does."}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "No?"}]},
            {"type": "text", "text": "Yes, it does."},
        ],
        ["Yes, it does."],
        [{"type": "output_text", "text": "Yes, it does."}, None],
    ],
)
def test_a_reply_in_parts_is_read(run, content):
    rows, _ = judged(run, lambda exchange: exchange.say(content))

    assert {(row.verdict, row.reply) for row in rows} == {(Verdict.YES, "Yes, it does.")}


def first_question_only(run, misbehave):
    """Misbehave at one question, and answer the others."""
    bad = run.samples()[0].questions[1].question

    def behave(exchange):
        misbehave(exchange) if bad in exchange.question else exchange.say("Yes")

    return behave


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "too many\n frames"}}, "too many frames"),
        ({"error": {"message": "too many frames", "code": 400}}, "too many frames"),
        ({"error": {"message": "too many frames", "code": "context_length_exceeded"}}, "too many frames"),
        ({"error": "too many frames"}, "too many frames"),
        ({"object": "error", "message": "too many frames", "code": 40303}, "too many frames"),
        ({"detail": "too many frames"}, "too many frames"),
        ({"error": {"type": "odd"}}, "no reason given"),
        (
            {"choices": [{"error": {"message": "upstream broke", "code": 400}, "message": {"content": ""}}]},
            "upstream broke",
        ),
    ],
)
def test_an_error_under_status_200_is_said_after_one_attempt(run, body, reason):
    rows, requests = judged(run, first_question_only(run, lambda exchange: exchange.send(200, body)))

    failed = [row for row in rows if row.verdict is Verdict.FAILED]
    assert len(failed) == 2  # one question in two variants
    assert all(f"the server refuses the request: {reason}" in row.error for row in failed)
    assert requests == len(rows)


def test_an_overload_under_status_200_is_asked_again(run):
    def behave(exchange):
        overloaded = {"error": {"message": "busy", "code": 429}}
        exchange.send(200, overloaded) if exchange.attempt == 1 else exchange.say("Yes")

    rows, _ = judged(run, behave)
    assert {(row.verdict, row.attempts) for row in rows} == {(Verdict.YES, 2)}


def test_the_same_error_at_every_request_ends_the_command(run):
    with pytest.raises(InputError, match="refuses every request: the licence has run out"):
        judged(run, lambda exchange: exchange.send(200, {"error": {"message": "the licence has run out"}}))


@pytest.mark.parametrize("text", ["Yes, \ud83d it does.", "Yes, it does \udc80", "\udcffYes"])
def test_half_a_character_in_a_reply_costs_nothing(run, text):
    """Python's JSON reads it, and no file can hold it."""
    rows, _ = judged(run, lambda exchange: exchange.say(text))

    assert len(rows) == len((run.path / "answers.jsonl").read_bytes().splitlines())
    assert all("\ufffd" in row.reply for row in rows)


def test_half_a_character_in_an_error_costs_nothing(run):
    rows, _ = judged(run, first_question_only(run, lambda exchange: exchange.refuse(400, "bad \ud83d frame")))

    assert "bad \ufffd frame" in next(row.error for row in rows if row.error)


def test_an_emoji_in_two_escapes_stays_whole(run):
    rows, _ = judged(run, lambda exchange: exchange.say("Yes \ud83d\ude00"))

    assert {row.reply for row in rows} == {"Yes \U0001f600"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"choices":' + "[" * 100_000, id="nested deep"),
        pytest.param('{"choices": ' + "1" * 5000 + "}", id="a number too long"),
        pytest.param('{"choices": [null]}', id="a choice that is null"),
        pytest.param('{"choices": {"0": 1}}', id="choices that are an object"),
        pytest.param("null", id="null"),
        pytest.param('"yes"', id="a string"),
        pytest.param("\ufeff{}", id="a byte order mark"),
    ],
)
def test_nonsense_is_asked_again_and_then_fails(run, text, monkeypatch):
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    rows, requests = judged(run, lambda exchange: exchange.send_text(200, text))

    assert {(row.verdict, row.attempts) for row in rows} == {(Verdict.FAILED, 2)}
    assert requests == 2 * len(rows)


@pytest.mark.parametrize(
    ("top", "verdict"),
    [
        ([("Yes", math.nan), ("No", -1.0)], Verdict.FAILED),
        ([("Yes", 3.0), ("No", -1.0)], Verdict.FAILED),
        ([("Yes", None), ("No", -1.0)], Verdict.FAILED),
        ([(None, -0.1), ("No", -1.0)], Verdict.NO),
        ([("ĠYes", -0.1), ("▁no", -3.0)], Verdict.YES),
        ([("<think>", -0.0), ("The", -9.0)], Verdict.UNPARSED),
    ],
)
def test_log_probabilities_that_cannot_be_fail_and_marks_are_passed_over(run, top, verdict):
    rows, requests = judged(run, lambda exchange: exchange.say("Yes", top), protocol="logit")

    assert {row.verdict for row in rows} == {verdict}
    assert requests == len(rows)
    for line in (run.path / "answers.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_the_time_to_wait_may_be_a_date():
    later = datetime.now(UTC) + timedelta(seconds=30)
    assert 25 < retry_after_s(format_datetime(later, usegmt=True)) <= 30
    assert 25 < retry_after_s(later.strftime("%a, %d %b %Y %H:%M:%S")) <= 30  # without a zone
    assert retry_after_s(format_datetime(later - timedelta(minutes=2), usegmt=True)) == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2.5", 2.5), ("-3", 0), ("nan", 0), ("inf", 0), ("soon", 0), ("", 0), (None, 0), ("Mon, 99 Foo 2026", 0)],
)
def test_a_time_to_wait_is_a_number_or_nothing(value, seconds):
    assert retry_after_s(value) == seconds


def test_a_retry_waits_until_the_date_that_the_server_gives(run, monkeypatch):
    waits = []
    monkeypatch.setattr(server, "_wait", lambda state: waits.append(state.outcome.exception().retry_after_s) or 0.0)

    def behave(exchange):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
        exchange.refuse(429, retry_after=date) if exchange.attempt == 1 else exchange.say("Yes")

    judged(run, behave)
    assert waits
    assert all(30 < wait <= 40 for wait in waits)


def test_the_counts_of_a_mixed_run_are_all_kept(run):
    def behave(exchange):
        kind = len(exchange.question) % 3
        [
            lambda: exchange.say("Yes"),
            lambda: exchange.say(None, finish="length"),
            lambda: exchange.say("Hm \ud800"),
        ][kind]()

    rows, _ = judged(run, behave)
    verdicts = Counter(row.verdict for row in rows)
    assert verdicts.total() == 2 * sum(len(sample.questions) for sample in run.samples())
    assert set(verdicts) <= {Verdict.YES, Verdict.FAILED, Verdict.UNPARSED}
