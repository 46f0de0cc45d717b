"""Guidance in each of its kinds, and `branch=` in each, against passes that are modulated by hand.

Every forward of the transformer in a real run is recorded, and run again on the same inputs: as it is, and with the
attention written out and a gain per key. A pass, or the half of a batch, that is to be modulated must give the one, and
any other must be bit-equal to the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

import alignvid
from alignvid.recipe import Branch
from explicit_attention import Arguments, Keys, ground_truth
from five import BUILDERS, FIVE, RECIPE
from pipelines import generate

ROUNDING = 1e-5  # a softmax written out, through three blocks and more
TWO_PASSES = {"true_cfg_scale": 2.0}
CFG_KONTEXT = TWO_PASSES | {
    "negative_prompt_embeds": torch.full((1, 12, 32), 0.5),
    "negative_pooled_prompt_embeds": torch.full((1, 32), -0.5),
}


class Guidance(NamedTuple):
    """A pipeline run with one kind of guidance."""

    name: str
    changes: dict[str, Any]
    """Of its call."""
    passes: tuple[tuple[str, ...], ...]
    """The branches in each forward of a step, in their order."""


COND, UNCOND, BOTH = ("cond",), ("uncond",), ("uncond", "cond")
CASES = {
    "CFG in two passes": [
        Guidance("wan_i2v", {}, (COND, UNCOND)),
        Guidance("framepack_v1", TWO_PASSES, (COND, UNCOND)),
        Guidance("flux_kontext", CFG_KONTEXT, (COND, UNCOND)),
        Guidance("qwen_image_edit", {}, (COND, UNCOND)),
    ],
    "distilled guidance, one pass": [
        Guidance("framepack_v1", {}, (COND,)),
        Guidance("flux_kontext", {}, (COND,)),
    ],
    "CFG in one batch": [Guidance("cogvideox_i2v", {}, (BOTH,))],
    "no guidance": [
        Guidance("wan_i2v", {"guidance_scale": 1.0}, (COND,)),
        Guidance("cogvideox_i2v", {"guidance_scale": 1.0}, (COND,)),
        Guidance("qwen_image_edit", {"true_cfg_scale": 1.0}, (COND,)),
    ],
}
RUNS = [
    pytest.param(case.name, combination, case, id=f"{case.name}-{combination}")
    for combination, cases in CASES.items()
    for case in cases
]


def _joint(tokens: dict[str, int], single: str | None = "single_transformer_blocks") -> list[Keys]:
    double = {f"double.{stream}": count for stream, count in tokens.items()}
    layout = [Keys("transformer_blocks", "attn", double)]
    return [*layout, Keys(single, "attn", {f"single.{s}": n for s, n in tokens.items()})] if single else layout


_FRAMEPACK = {"history": 4 * 1 * 1 + 1 * 1 * 2 + 2 * 2 * 3, "video": 4 * 2 * 3, "image": 16}
LAYOUTS = {
    # as derived in tests/models/test_ground_truth.py and its neighbours
    "wan_i2v": [
        Keys("blocks", "attn1", {"self.video": 6}),
        Keys("blocks", "attn2", {"cross.image": 4 * 4 + 1}),
        Keys("blocks", "attn2", {"cross.text": 512}),
    ],
    # the text is cropped to its valid tokens: 14 of the prompt, 11 of the negative one
    "framepack_v1": _joint(_FRAMEPACK | {"text": 14}) + _joint(_FRAMEPACK | {"text": 11}),
    "cogvideox_i2v": [Keys("transformer_blocks", "attn1", {"single.text": 16, "single.video": 3 * 1 * 2})],
    "flux_kontext": _joint({"text": 12, "video": 32, "image": 96}),
    "qwen_image_edit": _joint({"text": 12, "video": 8, "image": 32}, single=None),
}


class Forward(NamedTuple):
    """One forward of a transformer in a run."""

    arguments: Arguments
    sample: Tensor


@contextmanager
def recorded(pipe: DiffusionPipeline) -> Iterator[list[Forward]]:
    """Every forward of the pipeline's transformer while the context is open."""
    forwards: list[Forward] = []
    given: list[Arguments] = []
    hooks = [
        pipe.transformer.register_forward_pre_hook(
            lambda _, args, kwargs: given.append(Arguments(*copy.deepcopy((args, kwargs)))), with_kwargs=True
        ),
        pipe.transformer.register_forward_hook(
            lambda _, args, output: forwards.append(Forward(given[-1], output[0].clone()))
        ),
    ]
    yield forwards
    for hook in hooks:
        hook.remove()


def unmodulated(pipe: DiffusionPipeline, arguments: Arguments) -> Tensor:
    with torch.no_grad():
        return pipe.transformer(*arguments.args, **arguments.kwargs)[0]


def modulated_by_hand(pipe: DiffusionPipeline, name: str, arguments: Arguments) -> Tensor:
    targets = {target for keys in LAYOUTS[name] for target in keys.tokens}
    gains = {target: RECIPE.gamma ** (2.0 if target.endswith(".text") else 1.0) for target in targets}
    return ground_truth(pipe.transformer, arguments, LAYOUTS[name], gains, range(3)).sample


def check_each_forward(
    pipe: DiffusionPipeline, call: dict[str, Any], guidance: Guidance, branch: Branch, forwards: list[Forward]
) -> None:
    """Those of the chosen branch are as modulated by hand in the first of two steps, any other as without a gain."""
    assert len(forwards) == 2 * len(guidance.passes)
    for index, forward in enumerate(forwards):
        is_in_window = index < len(guidance.passes)
        parts = guidance.passes[index % len(guidance.passes)]
        embeddings = forward.arguments.kwargs["encoder_hidden_states"].chunk(len(parts))
        assert [torch.equal(part, call["prompt_embeds"]) for part in embeddings] == [part == "cond" for part in parts]
        plain = unmodulated(pipe, forward.arguments).chunk(len(parts))
        expected = modulated_by_hand(pipe, guidance.name, forward.arguments).chunk(len(parts))
        for part, *samples in zip(parts, forward.sample.chunk(len(parts)), plain, expected, strict=True):
            actual, without, by_hand = samples
            assert largest(without, by_hand) > 100 * ROUNDING
            if is_in_window and branch in ("both", part):
                assert largest(actual, by_hand) <= ROUNDING
            else:
                assert torch.equal(actual, without)


@pytest.mark.combines
@pytest.mark.parametrize("branch", ["both", "cond", "uncond"])
@pytest.mark.parametrize(("name", "combination", "guidance"), RUNS)
def test_the_chosen_branch_is_modulated_and_the_other_bit_equal_to_a_plain_one(
    name: str, combination: str, guidance: Guidance, branch: Branch, record_property
):
    pipe, call = BUILDERS[name]()
    with alignvid.attach(pipe, RECIPE, branch=branch), recorded(pipe) as forwards:
        generate(pipe, call | guidance.changes, num_inference_steps=2)
    check_each_forward(pipe, call, guidance, branch, forwards)
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["callback that changes latents"])
@pytest.mark.parametrize("name", FIVE)
def test_a_callback_that_changes_latents_does_not_move_the_window(name, combination, record_property):
    guidance = next(case for cases in CASES.values() for case in cases if case.name == name)
    pipe, call = BUILDERS[name]()
    inputs: list[Tensor] = []

    def halve(pipe: DiffusionPipeline, step: int, timestep: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs.append(kwargs["latents"] / 2.0)
        return {"latents": inputs[-1]}

    with alignvid.attach(pipe, RECIPE), recorded(pipe) as forwards:
        generate(pipe, call | guidance.changes, num_inference_steps=2, callback_on_step_end=halve)
    check_each_forward(pipe, call, guidance, "both", forwards)
    given = forwards[len(guidance.passes)].arguments.kwargs["hidden_states"]
    assert set(inputs[0].flatten().tolist()) <= set(given.flatten().tolist())
    record_property("pipeline", type(pipe).__name__)


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
