import random
import time
from collections import Counter

import pytest

from alignvid.bench.judges.reading import read_verdict
from alignvid.bench.verdicts import Verdict

YES = [
    "yes",
    "Yes",
    "YES",
    "Yes.",
    "Yes!!",
    "  \n\tyes",
    "Yes, the ball is red.",
    "Yes the ball is red",
    "Yes - the ball is red.",
    "Yes — there is no ball left.",
    "Yes, no ball is left at the end.",
    "Yes. No other object changes.",
    "Yes, there was a ball, but now there is none.",
    "Yes, and nothing else moves.",
    "Yes\n\nExplanation: I know that the cat is not there now.",
    "**Yes**",
    "**Yes**, the cat puts on sunglasses.",
    "**Yes.** The cat does.",
    "__Yes__: it does",
    "*yes*",
    "`yes`",
    "# Yes",
    "- Yes",
    "> Yes, it does.",
    '"Yes"',
    "'yes', because the ball is red",
    "“Yes,” the ball is red.",
    "(Yes)",
    "[yes] it does",
    "...yes",
    "Answer: Yes",
    "**Answer:** Yes, it does.",
    "Final answer: yes",
    "The answer is yes.",
    "The answer to the question is 'yes'.",
    "<answer>yes</answer>",
    '{"answer": "yes"}',
    "\ufeffYes",
    "\\boxed{Yes}",
    "<think>No ball? No. Wait.</think>\n\nYes, there is one.",
    "Ｙｅｓ",
    "Yes yes yes",
    "Yes, I cannot see the ball any more.",
    "Yes, the sign says 'no'.",
    "Yes, I am not wearing glasses in it.",
    "1. Yes",
    "1. **Yes**, the ball is red.\n2. The cat sits.",
    "(1) Yes, it does.",
    "a) yes",
    "A: Yes",
    "Response: Yes, it is.",
    "### Answer\n\nYes, the ball is red.",
    "<|im_start|>Yes<|im_end|>",
    "<s>Yes</s>",
    "```\nYes\n```",
    "```text\nYes, the ball is red.\n```",
    '```json\n{"answer": "yes"}\n```',
    '```JSON\n{\n  "Answer": "Yes",\n  "explanation": "There was no ball."\n}\n```\nNo other object changes.',
    '{"explanation": "No ball is left. No.", "answer": "Yes"}',
    '{"explanation": "The “ball” is red.", "final_answer": "YES."}',
    '{"Is the ball red?": "Yes"}',
    '{"answer": "Yes, the ball is red.", "confidence": 0.9}',
    '{"answer": "Yes", "explanation": "cut off in the mid',
    'Here is my answer:\n```json\n{"answer": "yes"}\n```',
    "$\\boxed{Yes}$",
    "$$\\boxed{\\text{Yes}}$$",
    "\\boxed{\\textbf{Yes}}",
    "**\\boxed{Yes}**",
    "The ball is red at the end. \\boxed{Yes}",
    "The ball is red.\n\nTherefore, the answer is \\boxed{\\text{yes}}.",
    "The ball is red.\n\n**Final Answer:** Yes",
    "The ball is red.\nFinal answer: **Yes**, the ball has turned red.",
    "The ball is red. <answer>Yes</answer>",
    "<think>Hm.</think><answer>Yes</answer>",
    "<|begin_of_box|>Yes<|end_of_box|>",
    "The ball is red, so <|begin_of_box|>Yes<|end_of_box|>",
    "The ball looks blue at first. No. Or is it? It is red.\n</think>\n\nYes, the ball is red.",
    "</think>Yes",
    "Hm. </think> Wait. <think>no</think> </think>\nYes.",
    "[THINK]No?[/THINK]Yes",
    "◁think▷It is blue. No.◁/think▷Yes, it is.",
    "<think>a <think>b</think> c</think>Yes",
    "𝐘𝐞𝐬, the ball is red.",
]
NO = [
    "no",
    "No",
    "NO.",
    "No, the ball stays blue.",
    "No the ball stays blue",
    "No, there is no ball.",
    "No. There is nothing now.",
    "No; I do not know that ball.",
    "No – it is still there.",
    "No (it stays)",
    "No\nThe dog does not jump.",
    "**No**, nothing happens.",
    '"No."',
    "\n\n no",
    "Answer: no",
    "answer - No",
    "The answer is **no**.",
    "My answer is no, the cat sits.",
    "No no no",
    "No, I cannot see a ball.",
    "No, the dog cannot reach the ball.",
    "No, the man nods as if to say 'yes'.",
    "No, la pelota no es roja.",
    "<thinking>Yes? yes.</thinking>no",
    "No, it's not possible to see it.",
    "1. No",
    "1) No, the ball stays.\n2) The cat sits.",
    '{"answer": "No", "reason": "yes"}',
    '```json\n{"verdict": "no"}\n```',
    "The ball stays blue. $\\boxed{No}$",
    "The ball stays blue.\n\nThe answer is no.",
    "The ball stays blue </think>\n\n**No**",
]
UNPARSED = [
    "",
    "   \n",
    "...",
    "now",
    "Now the ball is red.",
    "know",
    "I know that the ball is red, yes.",
    "nothing",
    "Nothing happens.",
    "None",
    "Nobody moves.",
    "Nope",
    "Nah",
    "Yeah",
    "Yep",
    "not sure",
    "Not sure, but yes.",
    "Not yes",
    "unknown",
    "Unclear.",
    "yesterday",
    "Yesno",
    "yes-man",
    "No-one is there.",
    "No one is there.",
    "No ball is visible.",
    "No idea.",
    "No doubt, the ball is red.",
    "No longer.",
    "No. 5 is on the shirt.",
    "no 1",
    "Yes, but no",
    "Yes, but no.",
    "No. Yes",
    "No. Yes, it does.",
    "No, wait, yes it does.",
    "No\nYes",
    "Yes? No?",
    "Yes?",
    "Yes and no",
    "yes/no",
    "Yes / No",
    "yes or no",
    "'yes' or 'no'",
    "**Yes** or **no**?",
    "Yes, no, maybe.",
    "Yes. The final answer is no.",
    "The answer is not yes.",
    "The answer is no longer clear.",
    "I cannot answer that.",
    "I'm sorry, but I can't help with this video.",
    "No, I cannot tell.",
    "Yes, but I am not sure.",
    "No, it cannot be determined from this video.",
    "I think yes",
    "The video shows a red ball.",
    "Question: is the ball red? Yes",
    "Maybe",
    "N/A",
    "n",
    "Y",
    "Sí",
    "Oui, la balle est rouge.",
    "Ja",
    "Nein",
    "non",
    "是的",
    "不",
    "<think>The ball is red, so yes",
    "The ball is red.</think>",
    "Noyes",
    "no's",
    "!!!!!",
    "yes\u200bno",
    "1. Yes\n2. No",
    "1) Yes 2) No",
    "(1) yes (2) no",
    '["yes", "no"]',
    '{"answer": "yes", "answer": "no"}',
    '{"answer": ["yes", "no"]}',
    '{"answer": true}',
    '{"answer": "unknown"}',
    '{"answer": null}',
    '{"yes": "the ball", "no": "the cat"}',
    '{"yes": false}',
    '{"question": "Is it red?", "reply": "yes"}',
    '{"answer": "yes or no"}',
    '{"answer": "yes"} No, wait: no.',
    "{" * 100_000,
    '{"a":' * 100_000,
    "Yes, it is. \\boxed{No}",
    "\\boxed{Yes} \\boxed{No}",
    "\\boxed{Yes or No}",
    "\\boxed{Yes}. No.",
    "Yes.\nFinal answer: no",
    "Answer: yes\nAnswer: no",
    "I am not sure.\nAnswer: yes",
    "At first no. No!\nFinal answer: yes",
    "The final answer: yes or no?",
    "No idea.\n\nFinal answer: yes",
    "Yes </think>",
    "Yes <think>",
    "<think>Yes</thinking>Yes",
    "<think>Yes</think>",
    "The video ends </think>",
    "</think>The ball is red.",
    "ĠYes",
]


def shortened(reply: str) -> str:
    return repr(reply[:60])


@pytest.mark.parametrize("reply", YES, ids=shortened)
def test_a_reply_that_begins_with_yes_is_yes(reply):
    assert read_verdict(reply) is Verdict.YES


@pytest.mark.parametrize("reply", NO, ids=shortened)
def test_a_reply_that_begins_with_no_is_no(reply):
    assert read_verdict(reply) is Verdict.NO


@pytest.mark.parametrize("reply", UNPARSED, ids=shortened)
def test_a_reply_in_doubt_is_unparsed(reply):
    assert read_verdict(reply) is Verdict.UNPARSED


PIECES = [
    *("yes", "no", "Yes", "No", " ", "\n", ", ", ". ", "**", "`", "```json\n", "{", "}", '"answer": ', '"', "\\boxed{"),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "1. ",
        "- ",
        "The ball is red",
        "not sure",
        "\ud83d",
        "\u0301",
        "é",
    ),
    *("Final answer: ", "[", "]", "|", "is", "<|begin_of_box|>", "<|end_of_box|>", "null", "\u200b", "￥", "\0", "$"),
]


def test_a_reply_of_any_pieces_is_read():
    rng = random.Random(0)
    replies = ["".join(rng.choices(PIECES, k=rng.randrange(1, 12))) for _ in range(2000)]
    found = Counter(read_verdict(reply) for reply in replies)
    assert set(found) == {Verdict.YES, Verdict.NO, Verdict.UNPARSED}


def test_a_reply_that_says_yes_and_its_twin_that_says_no_are_never_read_as_the_same():
    rng = random.Random(1)
    for _ in range(1500):
        reply = "".join(rng.choices(PIECES, k=rng.randrange(1, 12))).lower()
        twin = reply.replace("yes", "\1").replace("no", "yes").replace("\1", "no")
        verdicts = {read_verdict(reply), read_verdict(twin)}
        assert len(verdicts) == 2 or verdicts == {Verdict.UNPARSED}, (reply, twin)


LONG = [
    "Yes, " + "the ball is red, " * 60_000,
    "*" * 1_000_000,
    "<think>" * 150_000,
    "</think>" * 130_000,
    "<think></think>" * 70_000,
    "Yes" + "\n" * 1_000_000 + "x",
    "Yes" + " \n*" * 330_000,
    "answer" + " " * 1_000_000,
    "answer" + "*" * 1_000_000,
    "Yes" + ".,-" * 330_000,
    "Yes, I " + "can't be " * 110_000,
    "no" + " " * 1_000_000,
    "\\boxed{" * 140_000,
    "\\boxed{{x}{x}" * 80_000,
    "The ball.\n" + "answer *_*_*_*_*_*_*_*_\n" * 40_000,
    "<answer>" * 120_000,
    '"answer": "' * 90_000,
    "1. " * 330_000,
    "[" * 1_000_000,
    '{"answer": "' + "yes" * 330_000,
    "a" + "\u0316\u0301" * 500_000,
    "Yes" + "\u200b" * 1_000_000,
    "Yes (" * 200_000,
    "``" * 500_000,
]
MOST_SECONDS = 20.0
"""A megabyte takes about one; where a pattern is quadratic, it takes hours."""


@pytest.mark.parametrize("reply", LONG, ids=shortened)
def test_a_megabyte_is_read_in_no_time(reply):
    start = time.process_time()
    read_verdict(reply)
    assert time.process_time() - start < MOST_SECONDS


def test_the_time_of_reading_a_long_reply_does_not_change_what_it_says():
    assert read_verdict("Yes, " + "the ball is red, " * 20_000) is Verdict.YES
    assert read_verdict("Yes, " + "the ball is red, " * 20_000 + "but no.") is Verdict.UNPARSED
    assert read_verdict("*" * 100_000) is Verdict.UNPARSED
