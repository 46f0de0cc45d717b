import json
import re
import socket
import threading
from collections import Counter

import numpy as np
import pytest

from alignvid.bench.judges import JudgeOptions, frames, open_judge, pace, server
from alignvid.bench.judges.asking import prompt
from alignvid.bench.judges.frames import QWEN_2_5, shown_frames
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.media.videos import read_video
from rendered_runs import rendered_run
from stub_server import MODEL, slowly, stub_server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short waits, and frames that need not be enlarged much."""
    monkeypatch.setattr(server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(frames, "_MIN_TOKENS", 4)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def run(tmp_path):
    return rendered_run(tmp_path / "run", samples=2)


def judged(run, address, **options):
    judge = open_judge("openai", JudgeOptions(base_url=address, **options))
    return judge_run(run, judge, limit=None, on_answer=lambda row, count: None)


def question_count(run):
    return 2 * sum(len(sample.questions) for sample in run.samples())  # two variants


def yes(exchange):
    exchange.say("Yes, it does.")


def first_attempts(misbehave):
    """Misbehave at the first request about each question, answer the second."""

    def behave(exchange):
        misbehave(exchange) if exchange.attempt == 1 else exchange.say("No.")

    return behave


def test_every_question_is_asked_once_and_answered_once(run):
    with stub_server(yes) as (stub, address):
        tally = judged(run, address)

    assert tally.verdicts == Counter({Verdict.YES: question_count(run)})
    assert len(stub.exchanges) == question_count(run) == len((run.path / "answers.jsonl").read_text().splitlines())


def test_frames_arrive_lossless_as_one_video_before_the_question(run):
    with stub_server(yes) as (stub, address):
        judged(run, address)

    record = run.videos()[0]
    shown = shown_frames(read_video(run.path / record.file), QWEN_2_5)
    bodies = [item for item in stub.exchanges if np.array_equal(item.frames, shown.frames)]
    assert bodies
    kinds = [part["type"] for part in bodies[0].body["messages"][0]["content"]]
    assert kinds == ["video_url", "text"]
    assert bodies[0].body["media_io_kwargs"]["video"] == {
        "num_frames": -1,
        "fps": 2.0,
        "frames_indices": list(range(8)),
        "total_num_frames": 8,
        "duration": 4.0,
    }
    assert bodies[0].question.startswith("Question: ")
    assert bodies[0].body["max_tokens"] == 128
    assert bodies[0].body["temperature"] == 0


def test_frames_can_be_sent_as_images_and_that_is_another_setting(run):
    with stub_server(yes) as (stub, address):
        judged(run, address, send="images")
        assert judged(run, address).kept == 0

    kinds = Counter(part["type"] for part in stub.exchanges[0].body["messages"][0]["content"])
    assert kinds == {"image_url": 8, "text": 1}
    assert "media_io_kwargs" not in stub.exchanges[0].body


def test_the_first_question_of_a_video_goes_ahead_of_the_others(run):
    """So that the server has the video in its cache when they come."""
    log = []

    def behave(exchange):
        video = json.dumps(exchange.body["messages"][0]["content"][0])
        log.append((video, "asked"))
        slowly(0.02)(exchange)
        log.append((video, "answered"))

    with stub_server(behave) as (_, address):
        judged(run, address)

    for video in {video for video, _ in log}:
        assert [event for seen, event in log if seen == video][:3] == ["asked", "answered", "asked"]


def test_probabilities_decide_in_protocol_logit(run):
    top = [("Yes", np.log(0.3)), (" yes", np.log(0.3)), ("No", np.log(0.2)), ("The", np.log(0.2))]
    with stub_server(lambda exchange: exchange.say("Yes", top)) as (stub, address):
        judged(run, address, protocol="logit")

    row, *_ = run.answers()
    assert row.p_yes == pytest.approx(0.75)
    assert row.verdict == Verdict.YES
    assert stub.exchanges[0].body["max_tokens"] == 1
    assert stub.exchanges[0].body["top_logprobs"] == 20


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda exchange: exchange.refuse(429, retry_after="0.05"), id="429"),
        pytest.param(lambda exchange: exchange.refuse(500), id="500"),
        pytest.param(lambda exchange: exchange.refuse(503), id="503"),
        pytest.param(lambda exchange: exchange.send_text(200, '{"choices": [{"mess'), id="half a JSON"),
        pytest.param(lambda exchange: exchange.send_text(200, '{"choi', missing_bytes=50), id="a cut connection"),
        pytest.param(lambda exchange: exchange.send(200, {"weather": "fine"}), id="another JSON"),
        pytest.param(lambda exchange: exchange.send(200, []), id="a list"),
        pytest.param(lambda exchange: exchange.send_text(200, "<html>Welcome</html>"), id="a page"),
        pytest.param(lambda exchange: exchange.send(200, {"choices": []}), id="no choice"),
        pytest.param(lambda exchange: exchange.say(None), id="no text"),
    ],
)
def test_trouble_at_first_is_asked_again(run, misbehave):
    with stub_server(first_attempts(misbehave)) as (stub, address):
        tally = judged(run, address)

    assert tally.verdicts == Counter({Verdict.NO: question_count(run)})
    assert {row.attempts for row in run.answers()} == {2}
    assert len(stub.exchanges) == 2 * question_count(run)


@pytest.mark.slow
def test_a_request_that_hangs_is_given_up_and_asked_again(run):
    with stub_server(first_attempts(lambda exchange: stub.hang())) as (stub, address):
        tally = judged(run, address, timeout_s=0.5)

    assert tally.verdicts == Counter({Verdict.NO: question_count(run)})


def test_a_retry_waits_as_long_as_the_server_asks(run):
    behave = first_attempts(lambda exchange: exchange.refuse(429, retry_after="0.5"))
    with stub_server(behave) as (_, address):
        judged(run, address)

    assert all(row.seconds >= 0.5 for row in run.answers())


@pytest.mark.parametrize(
    ("misbehave", "reason"),
    [
        (lambda exchange: exchange.refuse(500, "out of memory"), r"HTTP 500: out of memory \(6 attempts\)"),
        (lambda exchange: exchange.send_text(200, "{"), r"no JSON \(6 attempts\)"),
        (lambda exchange: exchange.send(200, {}), r"not the form of a chat completion \(6 attempts\)"),
    ],
)
def test_lasting_trouble_fails_with_its_reason_and_is_asked_again_later(run, misbehave, reason):
    bad = run.samples()[0].questions[0].question

    def behave(exchange):
        misbehave(exchange) if bad in exchange.question else exchange.say("Yes")

    with stub_server(behave) as (_, address):
        tally = judged(run, address)
        failed = [row for row in run.answers() if row.verdict == Verdict.FAILED]
        assert failed
        assert tally.verdicts[Verdict.FAILED] == len(failed)
    assert re.search(reason, failed[0].error)
    with stub_server(yes) as (stub, address):
        assert judged(run, address).verdicts[Verdict.FAILED] == 0
    assert len(stub.exchanges) == len(failed)


def test_nonsense_in_words_is_unparsed_and_not_asked_again(run):
    with stub_server(lambda exchange: exchange.say("Now I know nothing.")) as (stub, address):
        tally = judged(run, address)

    assert tally.verdicts == Counter({Verdict.UNPARSED: question_count(run)})
    assert len(stub.exchanges) == question_count(run)


@pytest.mark.slow
def test_two_hundred_requests_in_flight_lose_and_double_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "_FIRST_LIMIT", 256)
    run = rendered_run(tmp_path / "run", samples=45)
    first_questions = {prompt(sample.questions[0]) for sample in run.samples()}
    is_full = threading.Event()

    def behave(exchange):
        if stub.in_flight >= 200:
            is_full.set()
        if exchange.question not in first_questions:
            is_full.wait(60)
        if exchange.attempt == 1 and len(exchange.question) % 5 == 0:
            exchange.refuse(500)
        else:
            exchange.say("Yes")

    with stub_server(behave) as (stub, address):
        tally = judged(run, address, concurrency=256)

    rows = [json.loads(line) for line in (run.path / "answers.jsonl").read_text().splitlines()]
    asked = Counter((row["job"], row["question"]) for row in rows)
    assert stub.most_in_flight >= 200
    assert set(asked.values()) == {1}
    assert tally.verdicts == Counter({Verdict.YES: question_count(run)}) == Counter({Verdict.YES: len(asked)})
    assert any(row["attempts"] == 2 for row in rows)


def test_a_server_that_bears_few_requests_gets_few(tmp_path):
    run = rendered_run(tmp_path / "run", samples=6)

    def behave(exchange):
        if stub.in_flight > 4:
            exchange.refuse(429)
        else:
            slowly(0.02)(exchange)

    with stub_server(behave) as (stub, address):
        tally = judged(run, address, concurrency=64)

    refused = len(stub.exchanges) - question_count(run)
    assert tally.verdicts == Counter({Verdict.YES: question_count(run)})
    assert refused < question_count(run)


def test_a_server_that_goes_away_ends_the_run_and_loses_nothing(run):
    answered = []

    with stub_server(yes) as (_, address):
        judge = open_judge("openai", JudgeOptions(base_url=address, concurrency=1))

    with pytest.raises(InputError, match=r"does not answer .* repeat the command"):
        judge_run(run, judge, limit=None, on_answer=lambda row, count: answered.append(row))

    with stub_server(yes) as (stub, address):
        assert judged(run, address).verdicts == Counter({Verdict.YES: question_count(run)})
    assert len(stub.exchanges) + len(answered) == question_count(run)


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with stub_server(first_attempts(lambda exchange: exchange.refuse(500))) as (stub, address):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        judged(run, None)

    assert stub.keys == {"Bearer sk-secret"}
    written = "".join(path.read_text() for path in run.path.glob("*.json*"))
    assert "sk-secret" not in written
    assert "127.0.0.1" not in written


def test_settings_say_model_and_version_and_other_ports_are_the_same_judge(run):
    for _ in range(2):
        with stub_server(yes) as (_, address):
            tally = judged(run, address)
    assert tally.asked == 0

    (row,) = run.judges()
    assert row.judge == f"openai:{MODEL}"
    assert row.values["server_version"] == "0.32.0"
    with stub_server(yes, has_version=False) as (_, address):
        assert judged(run, address).kept == 0


def nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs --base-url"),
        ({"base_url": "localhost:8000"}, "is no address"),
        ({"base_url": nobody_listens()}, "does not answer"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        open_judge("openai", JudgeOptions(**options))


def test_a_password_in_the_address_is_not_repeated():
    address = nobody_listens().replace("127", "user:pass-word@127")
    with pytest.raises(InputError) as caught:
        open_judge("openai", JudgeOptions(base_url=address))
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("models", "asked", "message"),
    [
        (("a", "b"), None, "choose --model from: a, b"),
        (("a",), "b", "does not serve 'b'; choose --model from: a"),
    ],
)
def test_a_model_that_the_server_does_not_have_is_refused(models, asked, message):
    with stub_server(yes, models=models) as (_, address), pytest.raises(InputError, match=message):
        open_judge("openai", JudgeOptions(base_url=address, model=asked))


@pytest.mark.parametrize(
    ("behave", "options", "message"),
    [
        (lambda exchange: exchange.refuse(401), {}, "refuses the key; set OPENAI_API_KEY"),
        (lambda exchange: exchange.refuse(404, "no such model"), {}, "no such model"),
        (lambda exchange: exchange.refuse(400, "media_io_kwargs"), {}, "refuses every request: HTTP 400: media_io"),
        (lambda exchange: exchange.say("Yes"), {"protocol": "logit"}, "judge with --protocol paper"),
    ],
)
def test_what_no_request_will_change_ends_the_run_at_once(run, behave, options, message):
    with stub_server(behave) as (stub, address), pytest.raises(InputError, match=message):
        judged(run, address, **options)
    assert len(stub.exchanges) < question_count(run)
