"""alignvid generate --until-followed on the miniature; at a γ of 0.12 hardly a word is heard: nothing is followed."""

import json
from pathlib import Path

import pytest

from alignvid.bench.judges import JudgeOptions, frames, open_judge, server
from alignvid.cli.following import trust
from stub_server import stub_server

PICTURE = Path(__file__).parents[2] / "examples" / "scene-1.png"
ONE_STEP = ("--image", PICTURE, "--prompt", "add a green circle at the top left", "--steps", 1, "--gamma", 0.12)
LOOP = ("generate", *ONE_STEP, "--until-followed")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    monkeypatch.setattr(frames, "_MIN_TOKENS", 4)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def answering(exchange):
    """A server's model that writes a checklist when asked for one, and says yes to all else."""
    if "checklist" in exchange.question:
        exchange.say("EDIT: Is there a green circle at the top left?\nKEEP: Is the background as it was?")
    else:
        exchange.say("Yes, it is.")


def test_not_followed_ends_with_3_and_says_what_was_not_right_and_how_far_the_rule_was_audited(alignvid, tmp_path):
    code, out, err = alignvid(*LOOP, "--judge", "rule", "--budget", 2, "--out", tmp_path / "out")
    lines = out.splitlines()
    assert code == 3
    assert (
        lines[0].startswith("Not followed in 2 attempts, the best is attempt ") and "of at most 2 attempts" in lines[0]
    )
    assert any(line.startswith("not right: no to \"Does the video end as 'add a green circle") for line in lines)
    assert "its audit: yes wrongly to none of 22 false things (95 % confidence: below 13% of them)" in out
    assert "attempt 2, seed 1: not followed" in err and "question 1, edit: " in err
    assert Path(lines[-2]) == tmp_path / "out" / "best.mp4" and Path(lines[-1]).name == "record.json"
    assert all(Path(line).is_file() for line in lines[-2:])


def test_followed_ends_with_0_by_a_checklist_of_the_judge_s_model_which_is_written_down(alignvid, tmp_path):
    with stub_server(answering) as (stub, address):
        line = (*LOOP, "--may-stand-still", "--judge", "openai", "--base-url", address, "--out", tmp_path / "out")
        code, out, err = alignvid(*line, "--json")
        told = json.loads(out)
        assert code == 0 and told["is_followed"] and len(told["attempts"]) == 1 and told["audit"] is None
        assert [one["about"] for one in told["attempts"][0]["answers"]] == ["edit", "rest"]
        assert "question 1, edit: Is there a green circle at the top left?" in err
        assert len(stub.exchanges) == 3
        code, _, err = alignvid(*line)
        assert code == 0 and len(stub.exchanges) == 3 and "attempt 1, seed 0 (was there): followed" in err


def test_a_server_that_goes_away_ends_with_2_and_the_same_line_resumes(alignvid, tmp_path):
    def failing(exchange):
        exchange.refuse(500, "out of memory")

    line = (*LOOP, "--may-stand-still", "--judge", "openai", "--ask", "Is it there?", "--out", tmp_path / "out")
    with stub_server(failing) as (_, address):
        code, out, err = alignvid(*line, "--base-url", address)
    assert (code, out) == (2, "")
    assert "Attempt 1 was not judged: The judge did not answer 'Is it there?': HTTP 500" in err.splitlines()[-1]
    with stub_server(answering) as (_, address):
        code, _, err = alignvid(*line, "--base-url", address)
    assert code == 0 and "(was there): followed" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--judge", "rule", "--budget", "0"), "budget 0 is out of range; give a number of attempts from 1 to 1,000."),
        (("--judge", "rule", "--budget", "-2"), "budget -2 is out of range"),
        (("--judge", "rule", "--minutes", "nan"), "'nan' is no finite number"),
        (("--judge", "rule", "--budget", "2", "--minutes", "3"), "are two limits; give one of them"),
        ((), "--until-followed needs a judge: --judge rule for the miniature"),
        (("--judge", "rule", "--ask", "Is it red?"), "asks its own two questions"),
        (("--judge", "openai", "--base-url", "http://127.0.0.1:9/v1", "--ask", "rest:"), "A question is empty"),
        (
            ("--judge", "openai", "--base-url", "http://127.0.0.1:9/v1"),
            "server at http://127.0.0.1:9/v1 does not answer",
        ),
        (("--judge", "rule", "--judge-model", "x"), "The judge 'rule' takes no --judge-model"),
        (("--judge", "rule", "--audit", "exact.json"), "The judge 'rule' is audited by the command itself"),
        (("--judge", "tarot", "--ask", "Is it?"), "There is no judge 'tarot'"),
        (("--judge", "rule", "--compare"), "--compare and --until-followed exclude each other"),
        (("--judge", "rule", "--prompt", "the cat jumps"), "No edit could be read from 'the cat jumps'"),
        (("--judge", "rule", "--model", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_folder(alignvid, tmp_path, arguments, sentence):
    code, out, err = alignvid(*LOOP, *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "") and sentence in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_options_of_the_loop_without_it_are_refused(alignvid, tmp_path):
    for option in (("--budget", "3"), ("--ask", "Is it red?"), ("--must-move",)):
        code, _, err = alignvid("generate", *ONE_STEP, "--out", tmp_path / "out", *option)
        assert code == 2 and "belongs to --until-followed" in err


def test_what_an_audit_says_of_a_yes_grows_with_the_attempts(tmp_path, alignvid):
    assert trust(None, 2) == "how often it says yes wrongly is not known: it was not audited"
    assert trust({"false_yes": 3, "of": 100}, 1) == "its audit: yes wrongly to 3 of 100 false things (3.0%)"
    assert trust({"false_yes": 3, "of": 100}, 6).endswith("which in 6 attempts makes up to 17% false ends")
    with stub_server(answering) as (_, address):
        own = open_judge("openai", JudgeOptions(base_url=address)).identity
        interval = {"value": None, "low": None, "high": None, "n": 0}
        counts = {"scenes": 1, "hits": 4, "misses": 0, "false_alarms": 1, "rejections": 3}
        rates = dict.fromkeys(("sensitivity", "specificity", "yes_bias", "denial_bias"), interval)
        facts = {"judge": own.judge, "protocol": own.protocol, "settings": own.digest, **counts, **rates}
        (tmp_path / "exact.json").write_text(json.dumps(facts))
        line = (*LOOP, "--may-stand-still", "--judge", "openai", "--base-url", address, "--ask", "Is it there?")
        code, out, _ = alignvid(*line, "--out", tmp_path / "out", "--audit", tmp_path / "exact.json")
        assert code == 0 and "its audit: yes wrongly to 1 of 4 false things (25.0%)" in out
        (tmp_path / "exact.json").write_text(json.dumps({**facts, "settings": "other"}))
        code, _, err = alignvid(*line, "--out", tmp_path / "new", "--audit", tmp_path / "exact.json")
        assert code == 2 and "audit that one" in err
