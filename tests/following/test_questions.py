import numpy as np
import pytest

from alignvid.errors import InputError, JudgeError
from alignvid.following.questions import Answer, Answered, Question, asked, checked_questions

FRAMES = np.zeros((2, 4, 4, 3), np.uint8)
EDIT = Question("Does the cat wear sunglasses?")


@pytest.mark.parametrize(
    ("text", "expected", "about", "question"),
    [
        ("Does the cat wear sunglasses?", "yes", "edit", "Does the cat wear sunglasses?"),
        ("no: Has the cat left?", "no", "edit", "Has the cat left?"),
        ("Rest: Is the sofa there?", "yes", "rest", "Is the sofa there?"),
        ("rest no:  Has the\nsofa moved?", "no", "rest", "Has the sofa moved?"),
        ("Is it 3:00 on the clock?", "yes", "edit", "Is it 3:00 on the clock?"),
        ("Note: is it red?", "yes", "edit", "Note: is it red?"),
    ],
)
def test_a_question_is_read_with_its_marks(text, expected, about, question):
    assert Question.parse(text) == Question(question, expected, about)


@pytest.mark.parametrize("text", ["", "  ", "no:", "rest: "])
def test_an_empty_question_is_refused(text):
    with pytest.raises(InputError, match="A question is empty; ask for example"):
        Question.parse(text)


def test_questions_that_ask_for_no_edit_or_ask_twice_are_refused(unchecked_types):
    with pytest.raises(InputError, match="No question asks whether the prompt is followed"):
        checked_questions(["rest: Is the sofa there?"], lambda frames, questions: [])
    with pytest.raises(InputError, match="No question asks"):
        checked_questions(None, lambda frames, questions: [])
    with pytest.raises(InputError, match="is asked twice"):
        checked_questions(["Is it red?", "no: Is it red?"], lambda frames, questions: [])
    with pytest.raises(InputError, match="cannot be called"):
        checked_questions(["Is it red?"], "rule")


def test_an_answer_may_be_a_probability_a_bool_or_none():
    questions = (EDIT, Question("Has the cat left?", "no"), Question("Is it dark?"), Question("Is it wet?"))
    found = asked(lambda frames, questions: [0.9, False, None, Answer(0.5, "hm")], FRAMES, questions)
    assert [one.says for one in found] == ["yes", "no", None, None]
    assert [one.is_right for one in found] == [True, True, False, False]
    assert Answered.from_dict(found[3].to_dict()) == found[3]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "gave 0 answers to 1 questions"),
        ([1.0, 0.0], "gave 2 answers to 1 questions"),
        ([1.5], "answered 1.5; a probability of yes is 0 to 1"),
        ([float("nan")], "answered nan"),
        (["yes"], "The judge failed: ValueError"),
        (None, "The judge failed: TypeError"),
    ],
)
def test_what_is_no_answer_to_each_question_is_a_judge_error(answers, message):
    with pytest.raises(JudgeError, match=message):
        asked(lambda frames, questions: answers, FRAMES, (EDIT,))


def test_ctrl_c_in_a_judge_is_not_taken_for_its_failure():
    def interrupted(frames, questions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(interrupted, FRAMES, (EDIT,))
