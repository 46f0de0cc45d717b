"""Wan image-to-video in diffusers reckons with 512 text tokens, whatever `max_sequence_length` gives it."""

from __future__ import annotations

import warnings

import pytest

import alignvid
from pipelines import generate, wan_i2v, wan_t2v


def with_tokens(call: dict, tokens: int) -> dict:
    embeds = {name: value[:, :1].repeat(1, tokens, 1) for name, value in call.items() if name.endswith("prompt_embeds")}
    return call | embeds | {"max_sequence_length": tokens}


@pytest.mark.parametrize("tokens", [500, 600])
@pytest.mark.parametrize("use", [lambda pipe: alignvid.attach(pipe, streams=["text"]), alignvid.observe])
def test_another_length_of_prompt_beside_an_image_is_warned_of(tokens, use):
    pipe, call = wan_i2v()
    expected = rf"The prompt has {tokens} tokens beside those of an image.*mixes up.*max_sequence_length=512"
    with use(pipe), pytest.warns(UserWarning, match=expected):
        generate(pipe, with_tokens(call, tokens))


def test_it_is_said_once_for_each_prompt_and_not_at_every_step():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(pipe, with_tokens(call, 500))
    assert sum("mixes up" in str(one.message) for one in caught) <= 2  # the prompt and the negative one


def test_without_an_image_any_length_is_right():
    pipe, call = wan_t2v()
    with alignvid.attach(pipe, streams=["text"]):
        generate(pipe, with_tokens(call, 40))
