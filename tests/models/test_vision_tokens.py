"""Vision tokens in a prompt's embedding: found by what the language model made of them, whatever the pipeline did then.

Where they lie is derived by hand, from the templates of diffusers' pipelines and the sizes of the pictures; nothing in
the layouts comes from alignvid.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid import StepWindow
from alignvid.host import hosts
from alignvid.models.reading.vision_tokens import reads_pictures, vision_span, watch
from explicit_attention import Arguments, Keys, forward, ground_truth, largest_difference
from pipelines import generate
from reading_pipelines import BUILDERS

GAMMA = 1.35
TOLERANCE = 2e-6  # fp32 rounds at 6e-8 of values around 1; a gain one per mille off would show at 1e-4 and more
MADE = {builder.__name__: builder for builder in BUILDERS}

PICTURE = 2 * 3  # 32x64 pixels become 56x84, of which 28x28 are a token; or 64x96 and 32x32
LEADING = {
    "qwen_image_edit_reading": 1 + PICTURE,  # the mark of its beginning
    # "Picture 1: " is 11 bytes; between the pictures there is the mark of the first one's end, too
    "qwen_image_edit_plus_reading": 11 + 1 + PICTURE + 1 + 11 + 1 + 2 * 2,
    "longcat_image_edit_reading": 1 + PICTURE,
    "joyimage_edit_reading": 3 + 1 + PICTURE,  # the header of the user's message
    "joyimage_edit_plus_reading": 3 + 1 + 2 * 2 + 1 + 1 + 2 * 2,
    "hunyuan_i2v_latent_concat_reading": 4 * 4 // 2,
    "hunyuan_i2v_token_replace_reading": 4 * 4 // 4,
}
"""Tokens up to the last of a picture, where those come first."""
TRAILING = {"kandinsky5_i2i_reading": 1 + PICTURE + 1}  # their marks, and the end of the message


def _joint(site: str, stack: str, attention: str, tokens: Mapping[str, int]) -> Keys:
    return Keys(stack, attention, {f"{site}.{stream}": count for stream, count in tokens.items()})


def layout(name: str, embedding: Tensor) -> list[Keys]:
    """The keys of each softmax, for an embedding (batch, tokens, features)."""
    total = embedding.shape[1]
    if name in TRAILING:
        text = {"text": total - TRAILING[name], "vision": TRAILING[name]}
        return [_joint("cross", "visual_transformer_blocks", "cross_attention", text)]
    text = {"vision": LEADING[name], "text": total - LEADING[name]}
    if name.startswith("joyimage"):
        return [_joint("double", "double_blocks", "attn", {"video": 8, "image": 8, **text})]
    if name.startswith("qwen"):
        image = 64 if "plus" in name else 32
        return [_joint("double", "transformer_blocks", "attn", {**text, "video": 8, "image": image})]
    tokens = {
        "longcat_image_edit_reading": {**text, "video": 32, "image": 32},
        "hunyuan_i2v_latent_concat_reading": {"video": 24, **text},
        "hunyuan_i2v_token_replace_reading": {"image": 8, "video": 16, **text},
    }[name]
    stacks = (("double", "transformer_blocks"), ("single", "single_transformer_blocks"))
    return [_joint(site, stack, "attn", tokens) for site, stack in stacks]


def forwards_of(pipe: Any, call: Mapping[str, Any]) -> list[Arguments]:
    """What the transformer got in a real run, forward by forward."""
    seen: list[Arguments] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(Arguments(*copy.deepcopy((args, kwargs)))), with_kwargs=True
    )
    generate(pipe, dict(call))
    hook.remove()
    return seen


@contextmanager
def watched(pipe: Any) -> Iterator[None]:
    handles = watch(pipe)
    yield
    for handle in handles:
        handle.remove()


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def attached_to(pipe: Any, stream: str) -> alignvid.Attachment:
    """γ² on this stream wherever it is a key, in all blocks and steps."""
    return alignvid.attach(pipe, gamma=GAMMA, streams={stream: 2.0}, blocks="all", steps=StepWindow.all())


@pytest.fixture
def edited() -> tuple[Any, dict[str, Any]]:
    return MADE["qwen_image_edit_reading"]()


@pytest.mark.exercises("explicit softmax")
@pytest.mark.parametrize("name", MADE)
def test_vision_and_text_each_alone_are_the_explicit_softmax(name):
    pipe, call = MADE[name]()
    with watched(pipe):
        forwards = forwards_of(pipe, call)
    for arguments in forwards[:2]:  # with guidance the other branch, too, whose prompt is shorter
        keys = layout(name, arguments.kwargs["encoder_hidden_states"])
        untouched = forward(pipe.transformer, arguments)
        for stream in ("vision", "text"):
            gains = {target: GAMMA**2 for one in keys for target in one.tokens if target.endswith(stream)}
            with attached_to(pipe, stream):
                actual = forward(pipe.transformer, arguments)
            expected = ground_truth(pipe.transformer, arguments, keys, gains, blocks=range(3), following=actual)
            assert largest_difference(actual, expected) <= TOLERANCE, stream
            assert largest_difference(actual, untouched) > 50 * TOLERANCE, stream


@pytest.mark.parametrize("name", LEADING)
def test_the_tokens_after_vision_are_the_first_that_depend_on_the_prompt(name):
    """Only the mark of the picture's end, where there is one, lies between."""
    pipe, call = MADE[name]()
    one, other = (
        forwards_of(pipe, call | {"prompt": f"{word} cat", "negative_prompt": f"{word} dog"})[0] for word in ("a", "b")
    )
    first, second = (arguments.kwargs["encoder_hidden_states"][-1] for arguments in (one, other))
    differing = (first != second).any(-1).nonzero().flatten().tolist()
    assert LEADING[name] <= differing[0] <= LEADING[name] + 1


@pytest.mark.parametrize("name", ["hunyuan_i2v_latent_concat_reading", "hunyuan_i2v_token_replace_reading"])
def test_the_mask_of_the_text_begins_after_the_vision_tokens(name):
    pipe, call = MADE[name]()
    (host,) = hosts(pipe)
    with watched(pipe):
        arguments = forwards_of(pipe, call)[0].kwargs
        found = host.family.reads.attended(pipe.transformer, arguments)
    mask = arguments["encoder_attention_mask"]
    assert found["vision"].shape[1] == LEADING[name] and found["vision"].all()
    assert torch.equal(torch.cat([found["vision"], found["text"]], 1), mask)
    assert not mask.all()  # else a shift would not show


def test_the_default_recipe_needs_no_counts_and_leaves_the_language_model_alone(edited):
    pipe, _ = edited
    before = hook_count(pipe.text_encoder)
    with alignvid.attach(pipe) as attachment:
        assert set(attachment.gains) == {"double.vision", "double.text", "double.image"}
        assert len({attachment.gains["double.vision"], attachment.gains["double.text"]}) == 1
    assert hook_count(pipe.text_encoder) == before


def test_one_gain_on_vision_and_text_is_the_gain_on_the_whole_prompt(edited):
    """As on the same pipeline without its language model, where the streams are one."""
    pipe, call = edited
    embeddings = encoded(pipe, call)
    with alignvid.attach(pipe, streams=["vision", "text"]):
        split = generate(pipe, without_prompts(call) | embeddings)
    pipe.register_modules(text_encoder=None)
    with alignvid.attach(pipe, streams=["text"]) as attachment:
        assert set(attachment.gains) == {"double.text"}
        assert torch.equal(generate(pipe, without_prompts(call) | embeddings), split)


def test_detaching_takes_the_hooks_off_the_language_model_even_after_an_error(edited):
    pipe, call = edited
    plain = generate(pipe, call)
    before = hook_count(pipe.text_encoder)  # transformers puts some of its own at the first run

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), alignvid.attach(pipe, streams=["text"]):
        assert hook_count(pipe.text_encoder) > before
        generate(pipe, call | {"callback_on_step_end": fail})
    assert hook_count(pipe.text_encoder) == before
    assert torch.equal(generate(pipe, call), plain)


def test_an_attachment_that_fails_leaves_no_hook(edited, monkeypatch):
    pipe, _ = edited
    before = hook_count(pipe.text_encoder)
    monkeypatch.setattr("alignvid.attachment.in_force.install_gate", lambda gate: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alignvid.attach(pipe, streams=["text"])
    assert hook_count(pipe.text_encoder) == before


def test_embeddings_made_before_attaching_count_as_text_and_a_gain_that_must_know_says_so(edited):
    pipe, call = edited
    call = without_prompts(call) | encoded(pipe, call)
    plain = generate(pipe, call)
    unknown = r"Which tokens of the prompt are a picture's is not known, so that all count as text: .* Attach before"
    with (
        attached_to(pipe, "vision"),
        pytest.warns(UserWarning, match=r"vision has no tokens in this call"),
        pytest.warns(UserWarning, match=unknown),
    ):
        assert torch.equal(generate(pipe, call), plain)
    with attached_to(pipe, "text"), pytest.warns(UserWarning, match=unknown):
        assert not torch.equal(generate(pipe, call), plain)
    with alignvid.attach(pipe, streams=["image"]):  # without a warning, since it need not know
        generate(pipe, call)


def test_a_prompt_without_pictures_is_all_text_without_a_warning():
    """JoyImage-Edit makes pictures from a prompt alone, too."""
    pipe, call = MADE["joyimage_edit_reading"]()
    call = {key: value for key, value in call.items() if key != "image"} | {"height": 32, "width": 64}
    with attached_to(pipe, "text"):
        generate(pipe, call)
    with attached_to(pipe, "vision"), pytest.warns(UserWarning, match="vision has no tokens in this call"):
        generate(pipe, call)


def test_embeddings_made_while_attached_keep_their_vision_tokens(edited):
    pipe, call = edited
    with attached_to(pipe, "vision"):
        expected = generate(pipe, call)
        embeddings = encoded(pipe, call)
        torch.testing.assert_close(
            generate(pipe, without_prompts(call) | embeddings), expected, atol=1e-5, rtol=0.0
        )  # the language model is not bit-equal twice


def test_two_pictures_of_two_prompts_in_one_batch(edited):
    """The pipeline leaves the sizes of several pictures as they are: 64x64 become 56x56."""
    pipe, call = edited
    texts = {"prompt": ["a cat", "a big dog"], "negative_prompt": ["a red", "a big circle"]}
    pictures = [call["image"], call["image"].rotate(180)]
    with watched(pipe):
        for arguments in forwards_of(pipe, call | texts | {"image": pictures}):
            embedding = arguments.kwargs["encoder_hidden_states"]
            assert len(embedding) == 2
            assert vision_span(embedding) == range(1, 1 + 2 * 2)


def test_several_pictures_of_one_prompt_share_its_tokens(edited):
    pipe, call = edited
    noise = torch.randn(2, 8, 16)
    with attached_to(pipe, "vision"):
        both = generate(pipe, call | {"num_images_per_prompt": 2, "latents": noise})
        alone = generate(pipe, call | {"latents": noise[:1]})
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=0.0)


def test_a_batch_whose_vision_tokens_lie_elsewhere_is_not_told_apart(edited):
    pipe, call = edited
    with watched(pipe):
        embedding = encoded(pipe, call)["prompt_embeds"]
    assert vision_span(embedding) == range(1, LEADING["qwen_image_edit_reading"])
    assert vision_span(torch.cat([embedding, embedding.roll(1, dims=1)])) is None


def test_a_language_model_of_another_precision_is_recognised():
    pipe, call = MADE["hunyuan_i2v_latent_concat_reading"]()
    pipe.text_encoder.to(torch.bfloat16)
    with watched(pipe):
        embedding = forwards_of(pipe, call)[0].kwargs["encoder_hidden_states"]
    assert embedding.dtype == torch.float32
    assert vision_span(embedding) == range(8)


def test_a_copy_of_an_attached_pipeline_tells_them_apart_too_and_detaches_alone(edited):
    pipe, call = edited
    plain = generate(pipe, call)
    before = hook_count(pipe.text_encoder)  # transformers puts some of its own at the first run
    with attached_to(pipe, "text"):
        copied = copy.deepcopy(pipe)
        attached = generate(pipe, call)
        assert torch.equal(generate(copied, call), attached)
        alignvid.detach(copied)
        assert torch.equal(generate(copied, call), plain)
        assert torch.equal(generate(pipe, call), attached)
    assert hook_count(copied.text_encoder) == hook_count(pipe.text_encoder) == before


def test_threads_that_read_different_pictures_do_not_mix_them_up(edited):
    pipe, call = edited
    pictures = [call["image"].resize(size) for size in ((64, 32), (64, 64), (32, 64), (96, 32))]
    with watched(pipe):
        alone = [vision_span(embedded(pipe, picture)) for picture in pictures]
        found: dict[int, range] = {}

        def read(index: int) -> None:
            found[index] = vision_span(embedded(pipe, pictures[index]))

        for _ in range(5):
            threads = [threading.Thread(target=read, args=(index,)) for index in range(len(pictures))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [found.pop(index) for index in range(len(pictures))] == alone
    assert len({span.stop for span in alone}) > 1


def test_an_observation_tells_vision_from_text_or_says_that_it_cannot(edited):
    pipe, call = edited
    embeddings = encoded(pipe, call)
    with alignvid.observe(pipe) as trace:
        generate(pipe, call)
    assert {"vision", "text", "video", "image"} <= {fact.keys for fact in trace.facts}
    assert not trace.problems
    with alignvid.observe(pipe) as trace:
        generate(pipe, without_prompts(call) | embeddings)
    assert [problem.partition(":")[0] for problem in trace.problems] == ["vision was not distinguished from text"]


def test_a_pipeline_without_a_language_model_that_sees_has_no_such_stream():
    from registry import BUILDERS as everything

    for name in ("qwen_image_edit", "qwen_image_layered", "hunyuan_i2v_token_replace", "longcat_image_edit"):
        pipe, _ = everything[name]()
        assert name == "qwen_image_layered" or not reads_pictures(pipe)
        with alignvid.attach(pipe) as attachment:
            assert not any(target.endswith("vision") for target in attachment.gains)


def encoded(pipe: Any, call: Mapping[str, Any]) -> dict[str, Tensor]:
    """The embeddings of both prompts, as the pipeline's user has them made."""
    given = {}
    for sign, prompt in (("", call["prompt"]), ("negative_", call["negative_prompt"])):
        given[f"{sign}prompt_embeds"] = embedded(pipe, pipe.image_processor.resize(call["image"], 32, 64), prompt)
        given[f"{sign}prompt_embeds_mask"] = torch.ones(given[f"{sign}prompt_embeds"].shape[:2], dtype=torch.long)
    return given


@torch.no_grad()
def embedded(pipe: Any, picture: Any, prompt: str = "a cat") -> Tensor:
    return pipe.encode_prompt(prompt=prompt, image=picture, device=torch.device("cpu"))[0]


def without_prompts(call: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if "prompt" not in key}
