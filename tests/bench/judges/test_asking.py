import math

import pytest

from alignvid.bench.data.samples import Question
from alignvid.bench.judges.asking import logit_reply, probability_of_yes, prompt
from alignvid.bench.verdicts import Verdict


def test_the_prompt_is_the_published_one():
    question = Question(id="a", question="Is the ball red?", expected_answer="yes", category="object_colour")
    assert (
        prompt(question).split()
        == (
            "Question: Is the ball red? Please watch the video carefully and answer the question based solely on what "
            "you observe. Reply with 'yes' or 'no' followed by a brief explanation of your reasoning."
        ).split()
    )


def test_spellings_of_yes_and_no_are_summed():
    top = [("Yes", math.log(0.2)), (" yes", math.log(0.1)), ("NO", math.log(0.1)), ("now", math.log(0.5))]
    assert probability_of_yes(top) == pytest.approx(0.75)


def test_neither_word_is_no_probability():
    assert probability_of_yes([("The", -0.1), ("now", -3.0), ("yesterday", -4.0)]) is None


@pytest.mark.parametrize(
    ("yes", "no", "verdict"),
    [(0.5, 0.1, Verdict.YES), (0.1, 0.5, Verdict.NO), (0.25, 0.25, Verdict.UNPARSED)],
)
def test_the_likelier_word_decides(yes, no, verdict):
    reply = logit_reply("x", [("yes", math.log(yes)), ("no", math.log(no))])
    assert reply.verdict is verdict


def test_a_first_token_that_is_neither_is_unparsed():
    assert logit_reply("The", [("The", -0.1)]).verdict is Verdict.UNPARSED


@pytest.mark.parametrize("token", ["ĠYes", "▁yes", "ĊYES", " Yes", "yes\n", "▁▁Yes"])
def test_the_marks_of_a_tokenizer_do_not_change_a_word(token):
    assert probability_of_yes([(token, math.log(0.3)), ("Ġno", math.log(0.1))]) == pytest.approx(0.75)


def test_a_token_that_is_null_is_neither_word():
    assert probability_of_yes([(None, -0.1), ("no", -3.0)]) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.5, 800.0])
def test_what_is_no_log_probability_fails_and_is_no_verdict(value):
    reply = logit_reply("Yes", [("Yes", value), ("No", -1.0)])
    assert (reply.verdict, reply.p_yes) == (Verdict.FAILED, None)
    assert f"the log-probability of 'Yes' is {value:g}" in reply.error


def test_a_token_that_cannot_be_has_no_share():
    assert probability_of_yes([("yes", -math.inf), ("no", -0.2)]) == 0.0
    assert probability_of_yes([("yes", -math.inf), ("no", -math.inf)]) is None


def test_certainty_may_be_rounded_up():
    assert logit_reply("Yes", [("Yes", 1e-4)]).verdict is Verdict.YES
