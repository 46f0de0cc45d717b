"""Chosen words in every family, against softmax(gain · q kᵀ / √d + bias) v written out, a number for each key.

Where a prompt's tokens lie among the keys is derived by hand in the layouts of tests/models; which of them a word is,
the tokenizer's own offsets say.
"""

from __future__ import annotations

import math

import pytest
import torch
from test_ground_truth import LAYOUTS as FIRST
from test_image_ground_truth import LAYOUTS as PICTURES
from test_image_ground_truth import forwards_of
from test_video_families import LAYOUTS as VIDEOS
from torch import Tensor

import alignvid
from alignvid import Emphasis, Recipe, StepWindow
from alignvid.errors import UnknownTarget, WordError
from explicit_attention import Forward, forward, largest_difference, softmax_attention
from registry import BUILDERS, by_name
from worded import encoded, give_encoders, positions_of

WEIGHTS = {"zq": 1.5, "yes": 2.0}
TOLERANCE = 1e-5  # of the largest value: fp32 rounds at 6e-8; some hosts round queries and keys on the way
REFUSED = {
    "anima": "conditioner",
    "anima_img2img": "conditioner",
    "bria_fibo2_edit": "gist",
    "cosmos3": "reads the prompt's tokens itself",
    "hunyuan15": "sorts the tokens",
    "hunyuan_image": "sorts the tokens",
    "ideogram4": "one sequence",
    "krea2": "several layers",
    "ltx2": "connectors",
    "echo": "connectors",
    "omnigen": "reads the prompt's tokens itself",
    "qwen_image21": "pictures",
    "sana_wm_refiner": "connectors",
}
"""Families where words cannot be found, by the beginning of a pipeline's name, and what the reason is about."""
WITHOUT_EMBEDDINGS = {
    *("bria_fibo", "bria_fibo_edit", "longcat_image", "longcat_image_edit", "joyimage_edit_plus"),
    *("visual_cloze", "visual_cloze_generation", "motif_i2v"),
}
"""Builders that take no embeddings: with encoders of their own, or with encoding left out."""
BEFORE = {"aura_flow": (8,), "hunyuan_dit": (0, 12), "hunyuan_dit_controlnet": (0, 12), "hidream": (0, 12, 24)}
"""Where each reading of the prompt begins in the text: behind 8 registers, or behind another encoder's 12 tokens."""


def refusal(name: str) -> str | None:
    return next((reason for start, reason in REFUSED.items() if name.startswith(start)), None)


LAYOUTS = {name: layout for name, layout in (FIRST | PICTURES | VIDEOS).items() if name not in WITHOUT_EMBEDDINGS}
OFTEN = {
    *("wan_t2v", "wan_i2v", "hunyuan_t2v", "framepack_v1", "flux", "flux_kontext", "sd3", "qwen_image", "z_image"),
    *("cogvideox", "hidream", "aura_flow"),
}
"""Run each time; the others with --run-slow, for a family in each would be minutes."""
FOUND = [
    name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS if refusal(name) is None
]


class Built:
    """A pipeline, and what its transformer was given last while words were looked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pipe, call = BUILDERS[name]()
        give_encoders(self.pipe, call)
        self.layout = [keys for keys in LAYOUTS[name] if any(target.endswith(".text") for target in keys.tokens)]
        with alignvid.attach(self.pipe, self.recipe("gain")) as attachment:
            self.arguments = forwards_of(self.pipe, encoded(self.pipe, call))[-1]
            self.words = attachment.words

    def recipe(self, by) -> Recipe:
        blocks = alignvid.BlockSet.of(dict.fromkeys({keys.stack for keys in self.layout}, "0,2"))
        return Recipe(Emphasis(WEIGHTS, by), blocks, StepWindow.all())

    def numbers(self, attention: str, count: int, neutral: float, number) -> Tensor:
        """One for each key of a softmax."""
        for keys in self.layout:
            names = [f"{keys.stack}.{block}.{keys.attention}".rstrip(".") for block in (0, 2)]
            if attention in names and count == sum(keys.tokens.values()):
                return torch.cat([self._part(target, size, neutral, number) for target, size in keys.tokens.items()])
        return torch.full((count,), neutral)

    def _part(self, target: str, size: int, neutral: float, number) -> Tensor:
        part = torch.full((size,), neutral)
        if target.endswith(".text"):
            for word, weight in WEIGHTS.items():
                for start in BEFORE.get(self.name, (0,)):
                    part[[start + position for position in positions_of(word)]] = number(weight)
        return part

    def for_samples(self, numbers: Tensor, samples: int, neutral: float) -> Tensor:
        """(batch, 1, 1, key): a pass without a prompt (CogView 3 gives it zeros) has no words."""
        text = self.arguments.kwargs.get("encoder_hidden_states")
        is_empty = [False] * samples
        if isinstance(text, Tensor) and text.ndim == 3 and len(text) == samples:
            is_empty = [not bool(sample.any()) for sample in text]
        rows = [torch.full_like(numbers, neutral) if empty else numbers for empty in is_empty]
        return torch.stack(rows)[:, None, None]

    def explicit(self, following: Forward, by: str) -> Forward:
        def attention(name, query, key, value, mask, scale):
            ones = torch.ones(key.shape[2])
            if by == "gain":
                gain = self.for_samples(self.numbers(name, len(ones), 1.0, float), len(key), 1.0)
                return softmax_attention(query, key, value, mask, scale, gain)
            bias = self.for_samples(self.numbers(name, len(ones), 0.0, math.log), len(key), 0.0)
            if mask is not None:
                bias = bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask
            return softmax_attention(query, key, value, bias, scale, ones)

        return forward(self.pipe.transformer, self.arguments, attention, following)


@pytest.fixture(scope="module", params=FOUND)
def built(request) -> Built:
    return Built(request.param)


@pytest.mark.parametrize("by", ["gain", "odds"])
def test_chosen_words_are_the_explicit_softmax(built, by):
    plain = forward(built.pipe.transformer, built.arguments)
    try:
        with alignvid.attach(built.pipe, built.recipe(by)):
            actual = forward(built.pipe.transformer, built.arguments)
    except UnknownTarget as error:
        assert by == "odds"
        assert "takes no attention mask" in str(error)
        return
    expected = built.explicit(actual, by)
    size = max(float(actual.sample.abs().max()), 1.0)
    assert largest_difference(actual, expected) <= TOLERANCE * size
    assert largest_difference(actual, plain) > 10 * TOLERANCE * size


def test_every_word_is_found_with_its_encoder(built):
    assert set(built.words) == set(WEIGHTS)
    for word, places in built.words.items():
        assert all(tokens == positions_of(word) for tokens in places.values())


@pytest.mark.parametrize("name", by_name(name for name in LAYOUTS if refusal(name) is not None))
def test_a_family_where_words_cannot_be_found_is_refused_with_the_reason(name):
    pipe, _ = BUILDERS[name]()
    with pytest.raises(WordError, match=refusal(name)):
        alignvid.attach(pipe, words={"cat": 1.5})
