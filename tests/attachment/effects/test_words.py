"""Words in prompts that a real pipeline reads: the miniature, a Wan image-to-video with a T5 of its own."""

from __future__ import annotations

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

import alignvid
from alignvid import Emphasis, LogBias, Recipe, Scalar, StepWindow
from alignvid.errors import ModulationError, UnknownTarget, WordError
from alignvid.miniature import load_pipeline
from alignvid.miniature.batches import batched
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH

PROMPT = "add a green circle at the top left"
OTHER = "remove the red square"


@pytest.fixture(scope="module")
def pipe() -> WanImageToVideoPipeline:
    return load_pipeline()


def picture() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 190))


def run(pipe, prompt: str | None = PROMPT, *, guidance: float = 1.0, **changes) -> np.ndarray:
    return pipe(
        image=picture(),
        prompt=prompt,
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=2,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **changes,
    ).frames[0]


def everywhere(modulation) -> Recipe:
    return Recipe(modulation, alignvid.BlockSet.of("all"), StepWindow.all())


def test_a_weight_of_one_is_bit_equal(pipe):
    expected = run(pipe)
    with alignvid.attach(pipe, gamma=1.0, words={"circle": 1.0}):
        assert np.array_equal(run(pipe), expected)
    assert np.array_equal(run(pipe), expected)


def test_words_act_beside_the_recipe_and_say_where_they_were_found(pipe):
    plain = run(pipe)
    with alignvid.attach(pipe, gamma=1.0, words={"green circle": 2.0}) as attachment:
        assert not np.array_equal(run(pipe), plain)
    assert attachment.words == {"green circle": {"text_encoder": [2, 3]}}
    assert "cross.words green circle x2" in str(attachment)
    assert "'green circle' is tokens 2-3 of text_encoder" in str(attachment)


def test_the_recipe_with_words_survives_its_file_form(pipe):
    with alignvid.attach(pipe, words={"circle": 1.6}) as attachment:
        recipe = attachment.recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with alignvid.attach(pipe, recipe):
        expected = run(pipe)
    with alignvid.attach(pipe, words={"circle": 1.6}):
        assert np.array_equal(run(pipe), expected)


def test_a_word_that_is_not_in_the_prompt_is_an_error_that_names_the_nearest(pipe):
    with alignvid.attach(pipe, words={"cirle": 2.0}), pytest.raises(WordError, match="'cirle' is not in the prompt; "):
        run(pipe)
    with alignvid.attach(pipe, words={"cirle": 2.0}), pytest.raises(WordError, match="nearest there: circle"):
        run(pipe)


def test_a_word_that_was_cut_off_is_an_error_that_says_so(pipe):
    with (
        alignvid.attach(pipe, words={"circle": 2.0}),
        pytest.raises(WordError, match=r"not among the \d+ tokens .* cut off\. Shorten the prompt"),
    ):
        run(pipe, f"{'add a green square ' * 200} circle")


def test_embeddings_made_by_hand_are_an_error_that_says_so(pipe):
    embeddings = torch.randn(1, 512, pipe.transformer.config.text_dim, generator=torch.Generator().manual_seed(0))
    with (
        alignvid.attach(pipe, words={"circle": 2.0}),
        pytest.raises(WordError, match="not what a text encoder of this pipeline has made"),
    ):
        run(pipe, None, prompt_embeds=embeddings)


def test_embeddings_made_while_attached_are_known(pipe):
    with alignvid.attach(pipe, words={"circle": 2.0}):
        expected = run(pipe)
        with torch.no_grad():
            embeddings = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False, max_sequence_length=512)[0]
        assert np.array_equal(run(pipe, None, prompt_embeds=embeddings), expected)


def test_a_transformer_alone_and_a_pipeline_without_encoders_are_refused(pipe):
    with pytest.raises(WordError, match="A transformer alone has no text encoder"):
        alignvid.attach(pipe.transformer, everywhere(Emphasis({"circle": 2.0})))
    bare = WanImageToVideoPipeline(**{**pipe.components, "text_encoder": None})
    with pytest.raises(WordError, match="WanImageToVideoPipeline has no text encoder"):
        alignvid.attach(bare, words={"circle": 2.0})


def test_the_negative_prompt_need_not_have_the_word(pipe):
    with alignvid.attach(pipe, gamma=1.0, words={"circle": 2.0}) as attachment:
        both = run(pipe, guidance=3.0, negative_prompt=OTHER)
    only = Recipe(attachment.recipe.then[0].modulation, attachment.recipe.blocks, StepWindow.all(), "cond")
    with alignvid.attach(pipe, only):
        assert np.array_equal(run(pipe, guidance=3.0, negative_prompt=OTHER), both)


def test_two_prompts_in_one_batch_have_each_their_words(pipe):
    twin, pictures = batched(pipe), [picture()] * 2
    settings = {"steps": 2, "guidance": 1.0}
    alone = {}
    for prompt, word in ((PROMPT, "green"), (OTHER, "red")):
        with alignvid.attach(pipe, gamma=1.0, words={word: 2.0}):
            alone[prompt] = twin.generate([picture()], [prompt], [0], **settings)[0]
    with alignvid.attach(pipe, gamma=1.0, words={"green": 2.0, "red": 2.0}):
        both = twin.generate(pictures, [PROMPT, OTHER], [0, 0], **settings)
    for clip, prompt in zip(both, (PROMPT, OTHER), strict=True):
        assert np.abs(clip.astype(int) - alone[prompt].astype(int)).max() <= 1  # a batch rounds in another order


def test_a_prompt_of_a_batch_without_the_words_is_warned_of(pipe):
    twin = batched(pipe)
    with (
        alignvid.attach(pipe, gamma=1.0, words={"green": 2.0}),
        pytest.warns(UserWarning, match="Of the 2 prompts in this batch, 1 have none of the words green"),
    ):
        twin.generate([picture()] * 2, [PROMPT, OTHER], [0, 0], steps=1, guidance=1.0)


@torch.no_grad()
def test_two_threads_with_two_prompts_find_each_its_words(pipe):
    calls: list[dict] = []
    with alignvid.attach(pipe, everywhere(Emphasis({"circle": 2.0}))):
        hook = pipe.transformer.register_forward_pre_hook(
            lambda _, args, call: calls.append(dict(call)), with_kwargs=True
        )
        for prompt in (PROMPT, f"now {PROMPT}"):
            run(pipe, prompt)
        hook.remove()
        chosen, together = (calls[0], calls[-1]), threading.Barrier(2)
        alone = [pipe.transformer(**call)[0] for call in chosen]

        def at_once(call: dict) -> torch.Tensor:
            together.wait()
            with torch.no_grad():
                return pipe.transformer(**call)[0]

        with ThreadPoolExecutor(2) as threads:
            made = list(threads.map(at_once, chosen))
    assert all(torch.equal(one, other) for one, other in zip(made, alone, strict=True))
    assert not torch.equal(made[0], made[1])


def test_words_and_padding_are_two_streams_of_one_softmax(pipe):
    """A constant on all but the words is minus that constant on the words: softmax does not see a common shift."""
    with alignvid.attach(pipe, everywhere(LogBias(8.0, {"cross.words": 1.0}))):
        words = run(pipe)
    with alignvid.attach(pipe, everywhere(LogBias(8.0, {"cross.text": -1.0, "cross.words": 0.0}))):
        assert np.abs(run(pipe) - words).max() <= 1e-3
    with alignvid.attach(pipe, everywhere(LogBias(8.0, {"cross.padding": -1.0}))):
        assert not np.array_equal(run(pipe), words)


def test_the_same_gain_on_words_padding_and_the_rest_is_that_on_the_text(pipe):
    with alignvid.attach(pipe, everywhere(Scalar(1.5, {"cross.text": 1.0}))):
        expected = run(pipe)
    with alignvid.attach(pipe, everywhere(Scalar(1.5, {"cross.text": 1.0, "cross.words": 1.0, "cross.padding": 1.0}))):
        assert np.array_equal(run(pipe), expected)


def test_kinds_that_look_at_whole_streams_refuse_parts_of_the_text(pipe):
    with pytest.raises(UnknownTarget, match=r"'energy' acts on whole streams, and cross\.words is a part of the text"):
        alignvid.attach(pipe, everywhere(alignvid.Energy(powers={"cross.words": 1.0})))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "have a weight each"),
        ({"": 2.0}, "not a word"),
        ({"cat": 0.0}, "finite positive"),
        ({"cat": "2"}, "finite"),
    ],
    ids=repr,
)
def test_an_impossible_weight_is_refused(pipe, weights, message):
    with pytest.raises(ModulationError, match=message):
        alignvid.attach(pipe, words=weights)


def test_detaching_takes_the_hooks_off_the_text_encoder(pipe):
    before = len(pipe.text_encoder._forward_hooks)
    with alignvid.attach(pipe, words={"circle": 2.0}):
        assert len(pipe.text_encoder._forward_hooks) == before + 1
    assert len(pipe.text_encoder._forward_hooks) == before


def test_a_copy_of_the_pipeline_finds_its_own_words(pipe):
    with alignvid.attach(pipe, words={"circle": 2.0}):
        expected = run(pipe)
        copied = copy.deepcopy(pipe)
    with warnings.catch_warnings():
        assert np.array_equal(run(copied), expected)
    alignvid.detach(copied)
    assert len(copied.text_encoder._forward_hooks) == 0
