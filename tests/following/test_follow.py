"""alignvid.follow on the miniature itself."""

import numpy as np
import pytest
import torch

import alignvid
from alignvid.errors import InputError, JudgeError
from alignvid.following import PictureRule
from alignvid.miniature.drawing import render
from alignvid.miniature.scenes import PALETTE


def yes_in_attempt(number):
    """A judge that counts how often it is asked, and is content with one attempt."""
    calls = []

    def judge(frames, questions):
        calls.append(frames)
        return [len(calls) == number for _ in questions]

    judge.calls = calls
    return judge


@pytest.fixture
def ask(miniature, inputs):
    def ask(judge, **options):
        options = {"questions": ["Is it there?"], "must_move": False, **options}
        return alignvid.follow(miniature, judge=judge, **inputs, **options)

    return ask


def test_attempts_differ_by_their_noise_alone_and_say_what_acted(ask, miniature, inputs):
    found = ask(yes_in_attempt(2), seed=3)
    first, second = found.attempts
    assert found.is_followed and [first.seed, second.seed] == [3, 4]
    assert first.made.forwards == second.made.forwards == 2 and second.made.acted > 0
    assert any(site["change"] > 0 for site in first.made.proof["sites"]) and second.made.proof is None
    assert first.made.recipe == second.made.recipe

    with alignvid.attach(miniature), torch.no_grad():
        alone = miniature(**inputs, generator=torch.Generator().manual_seed(4), output_type="np").frames[0]
    assert np.array_equal(second.made.frames, np.round(alone * 255).astype(np.uint8))
    assert alignvid.attach(miniature).is_attached and alignvid.detach(miniature) is None


def test_the_same_call_resumes_in_its_folder_and_makes_and_asks_nothing_twice(ask, tmp_path):
    never = yes_in_attempt(0)
    first = ask(never, budget=1, out=tmp_path / "out")
    judge = yes_in_attempt(1)
    judge.identity = "test_follow.yes"
    never.identity = judge.identity
    again = ask(judge, budget=3, out=tmp_path / "out")
    # attempt 1 was judged under another name, so it is asked about anew, from the video that is there
    assert [attempt.was_there for attempt in again.attempts] == [True] and again.is_followed
    assert again.attempts[0].made.file == first.attempts[0].made.file
    assert (tmp_path / "out" / "best.mp4").read_bytes() == again.best.made.file.read_bytes()
    last = ask(judge, budget=3, out=tmp_path / "out")
    assert len(judge.calls) == 1 and last.to_dict() == again.to_dict()


def test_a_judge_that_fails_in_the_second_attempt_costs_no_video(ask, tmp_path):
    calls = []

    def breaking(frames, questions):
        calls.append(len(frames))
        if len(calls) == 2:
            raise OSError("the line is cut")
        return [0.0]

    breaking.identity = "breaking"
    with pytest.raises(JudgeError, match=r"Attempt 2 was not judged: The judge failed: OSError: the line is cut; its"):
        ask(breaking, budget=2, out=tmp_path / "out")
    found = ask(breaking, budget=2, out=tmp_path / "out")
    assert [attempt.was_there for attempt in found.attempts] == [True, True] and len(calls) == 3


def test_other_noise_or_another_prompt_does_not_go_into_a_folder_that_holds_attempts(ask, tmp_path, inputs):
    ask(yes_in_attempt(1), out=tmp_path / "out")
    with pytest.raises(InputError, match="holds attempts with another seed; give a new folder"):
        ask(yes_in_attempt(1), out=tmp_path / "out", seed=1)
    with pytest.raises(InputError, match="holds attempts with another recipe"):
        ask(yes_in_attempt(1), out=tmp_path / "out", gamma=1.2)


def test_attempts_are_not_resumed_with_other_weights(ask, miniature, tmp_path, monkeypatch):
    ask(yes_in_attempt(1), out=tmp_path / "out")
    norm = miniature.transformer.blocks[3].attn2.norm_k
    monkeypatch.setattr(norm, "weight", torch.nn.Parameter(norm.weight.detach() + 0.01))
    with pytest.raises(InputError, match="holds attempts with other weights of the model; give a new folder"):
        ask(yes_in_attempt(1), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget 0 is out of range"),
        ({"budget": 2, "minutes": 3.0}, "two limits"),
        ({"questions": [""]}, "A question is empty"),
        ({"questions": None}, "No question asks"),
        ({"generator": None}, "generator cannot be given to the loop: seed decides the noise"),
        ({"num_steps": 3}, "WanImageToVideoPipeline takes no 'num_steps'"),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_attempt(ask, options, message, tmp_path):
    judge = yes_in_attempt(1)
    with pytest.raises(InputError, match=message):
        ask(judge, out=tmp_path / "out", **options)
    assert judge.calls == [] and not (tmp_path / "out").exists()


def test_the_picture_rule_reads_picture_and_prompt_and_refuses_what_it_cannot(picture, scene, inputs):
    rule = PictureRule(picture, inputs["prompt"])
    shown, not_shown = (rule(render(scene, shown=is_shown), rule.questions) for is_shown in (True, False))
    assert [one.p_yes for one in shown] == [1, 1] and [one.p_yes for one in not_shown] == [0, 1]
    stranger = next(colour for colour in PALETTE if colour not in {shape.colour for shape in scene.shapes})
    with pytest.raises(InputError, match="No edit could be read from 'the cat jumps'"):
        PictureRule(picture, "the cat jumps")
    with pytest.raises(InputError, match="fits 0 of those in the picture"):
        PictureRule(picture, f"remove the {stranger} circle")
    with pytest.raises(InputError, match="cannot answer 'Is it red"):
        rule(render(scene), (alignvid.following.Question("Is it red?"),))
