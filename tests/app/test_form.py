"""The form becomes the spec of the command line; words are picked by clicking."""

import pytest

from alignvid.app.form import SLIDER, Form, spec_of, toggled, weights_in, words_of
from alignvid.errors import AlignvidError
from alignvid.generate import GenerationSpec


def test_an_empty_form_leaves_everything_to_the_model():
    assert spec_of(Form(prompt="the cat jumps"), {}) == GenerationSpec(prompt="the cat jumps")


def test_every_field_reaches_the_spec():
    form = Form(
        prompt="add a red hat", picture="cat.png", strength=SLIDER, follow=0.25, words="red hat:1.3", model="folder",
        negative_prompt="blur", seed=3.0, steps=4.0, guidance=2.5, size=" 64 × 32 ", frames=5.0,
    )  # fmt: skip
    assert spec_of(form, {"model": "other", "device": "cpu", "max_pixels": 9}) == GenerationSpec(
        prompt="add a red hat", image="cat.png", follow=0.25, emphasise="red hat:1.3", model="folder",
        negative_prompt="blur", seed=3, steps=4, guidance=2.5, width=64, height=32, frames=5, device="cpu",
        max_pixels=9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"prompt": "  "}, "The prompt is empty; say in words"),
        ({"size": "large"}, "Size 'large' is none; write for example 832x480"),
        ({"steps": 2.5}, "steps 2.5 is no whole number"),
        ({"strength": "much"}, "choose one of preset, slider"),
        ({"words": "dog:2"}, "'dog' is not in the prompt"),
        ({"strength": SLIDER, "follow": 3.0}, "from -1 .* to 1"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(field, said):
    with pytest.raises(AlignvidError, match=said):
        spec_of(Form(**{"prompt": "the cat jumps", **field}), {})


def test_words_are_those_of_the_prompt_once_each():
    assert words_of("The cat's hat, the red-hot café (2 × red)!") == [
        "The",
        "cat's",
        "hat",
        "red-hot",
        "café",
        "2",
        "red",
    ]


def test_a_click_adds_a_word_and_another_takes_it_away_again_whatever_its_case():
    once = toggled("red hat:1.3", "Cat")
    assert once == "red hat:1.3, Cat:1.6" and weights_in(once) == {"red hat": "1.3", "Cat": "1.6"}
    assert toggled(once, "cat") == "red hat:1.3"
