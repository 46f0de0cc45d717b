import pytest

from alignvid.bench.data.opening import open_data
from alignvid.bench.judges import JudgeOptions, open_judge
from alignvid.bench.judges.asker import Asker, questions_of
from alignvid.bench.judges.checklist import checklist, read_checklist
from alignvid.errors import InputError
from alignvid.following import Question

REPLY = """Here is the checklist:
1. **EDIT:** Does the cat wear sunglasses?
- keep: "Is the sofa still red?"
KEEP: It should stay dark.
EDIT: Does the cat wear sunglasses?
EDIT: Are the sunglasses on the cat's eyes?
"""


def test_a_checklist_is_read_from_what_models_write_the_edit_first():
    assert read_checklist(REPLY) == (
        Question("Does the cat wear sunglasses?"),
        Question("Are the sunglasses on the cat's eyes?"),
        Question("Is the sofa still red?", about="rest"),
    )


@pytest.mark.parametrize("reply", ["", "I cannot help with that.", "KEEP: Is it there?", "EDIT: make it red"])
def test_a_reply_without_a_question_about_the_edit_is_refused_with_the_remedy(reply):
    with pytest.raises(InputError, match=r"wrote no checklist that can be read .* give the questions yourself: --ask"):
        read_checklist(reply)


def test_a_judge_that_writes_nothing_says_so(tmp_path):
    from PIL import Image

    rule = open_judge("rule", JudgeOptions())
    with pytest.raises(InputError, match="The judge 'rule' writes no questions; give them: --ask"):
        checklist(rule, Image.new("RGB", (64, 64)), "add a green circle")


def test_a_data_set_s_questions_are_a_loop_s():
    sample = open_data("omitshapes").samples[0]
    found = questions_of(sample)
    assert [one.question for one in found] == [one.question for one in sample.questions]
    assert found[0].about == "edit" and Asker(open_judge("rule", JudgeOptions()), fps=8).identity.startswith("rule, ")
