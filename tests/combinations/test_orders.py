"""Techniques that put other modules, weights or forwards in a gain's way, in either order: never silently without it.

Where the order cannot work, the next forward says so. Compiling, offloading, casting and fusing of the five pipelines
are in test_compiled.py and test_techniques.py; here is what needs a case of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

import alignvid
from alignvid.errors import AttachmentError, ContractWarning
from five import BUILDERS, RECIPE
from loras import ONE, lora_of, merge
from offloading import in_groups_of_leaves, sequentially
from pipelines import generate as generated
from quantising import to_fp8_storage

ROUNDING = 2e-5  # float32 sums in another order, through every block and step
PROJECTED = ("allegro", "omnigen")
"""Their attentions run no norm, so the gain acts on the projection to keys itself, which a LoRA replaces."""
ORDERS = pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "attached afterwards"])


def generate(pipe: DiffusionPipeline, call: dict[str, Any]) -> Tensor:
    torch.manual_seed(0)  # OmniGen draws the latents of its reference from torch's own generator
    return generated(pipe, call)


def in_order(
    pipe: DiffusionPipeline, technique: Callable[[DiffusionPipeline], Any], *, is_attached_first: bool
) -> None:
    steps = [lambda: alignvid.attach(pipe, RECIPE), lambda: technique(pipe)]
    for step in steps if is_attached_first else reversed(steps):
        step()


def lora_on_projections(pipe: DiffusionPipeline) -> None:
    """As training code does where the class has no loader of its own."""
    config = LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    inject_adapter_in_model(config, pipe.transformer)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_lora_that_replaces_a_projection_after_attaching_is_an_error(name):
    pipe, call = BUILDERS[name]()
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        lora_on_projections(pipe)
        with pytest.raises(AttachmentError, match=r"to_k of block 0 .* LoRA was loaded .* detach and attach again"):
            generate(pipe, call)
    with_lora = generate(pipe, call)
    assert largest(with_lora, plain) > ROUNDING
    with alignvid.attach(pipe, RECIPE):
        assert largest(generate(pipe, call), with_lora) > ROUNDING
    assert torch.equal(generate(pipe, call), with_lora)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_lora_on_a_projection_before_attaching_is_scaled_with_it(name):
    pipe, call = BUILDERS[name]()
    lora_on_projections(pipe)
    with alignvid.attach(pipe, RECIPE):
        actual = generate(pipe, call)
    plain = generate(pipe, call)
    for module in pipe.transformer.modules():
        if hasattr(module, "merge"):
            module.merge()
    with alignvid.attach(pipe, RECIPE):
        assert largest(actual, generate(pipe, call)) <= ROUNDING
    assert largest(actual, plain) > 10 * ROUNDING


def fuse_projections(pipe: DiffusionPipeline) -> None:
    for module in pipe.transformer.modules():
        if hasattr(module, "fuse_projections"):
            module.fuse_projections()


PROJECTION_TECHNIQUES = {
    "group offload, leaves": in_groups_of_leaves,
    "sequential offload": sequentially,
    "fp8 storage": to_fp8_storage,
    "fused QKV": fuse_projections,
}


@ORDERS
@pytest.mark.parametrize("technique", PROJECTION_TECHNIQUES)
@pytest.mark.parametrize("name", PROJECTED)
def test_a_gain_on_a_projection_does_not_mind_what_the_projection_runs_through(name, technique, is_attached_first):
    """Fused projections are made, and not run: these attentions know none."""
    pipe, call = BUILDERS[name]()
    other = copy.deepcopy(pipe)
    in_order(pipe, PROJECTION_TECHNIQUES[technique], is_attached_first=is_attached_first)
    actual = generate(pipe, call)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    if technique == "fp8 storage":
        weights = pipe.transformer.state_dict()
        other.transformer.load_state_dict({key: value.float() for key, value in weights.items()})
    assert largest(detached, generate(other, call)) == 0.0
    with alignvid.attach(other, RECIPE):
        assert largest(actual, generate(other, call)) == 0.0
    assert largest(actual, detached) > ROUNDING


def control_lora(pipe: DiffusionPipeline) -> dict[str, Tensor]:
    """A Control-LoRA's new weights for the norms of queries and keys, beside its LoRA proper."""
    generator = torch.Generator().manual_seed(1)
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5
        for key, value in pipe.transformer.state_dict().items()
        if key.rpartition(".")[0].rpartition(".")[2] in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
    }


@ORDERS
def test_a_control_lora_writes_its_weights_into_norms_that_carry_a_gain(is_attached_first):
    pipe, call = BUILDERS["flux_kontext"]()
    other, original = copy.deepcopy(pipe), generate(pipe, call)
    norms = control_lora(pipe)
    assert norms

    def load_control_lora(pipe: DiffusionPipeline) -> None:
        lora = {f"transformer.{key}": value for key, value in lora_weights.items()}
        pipe.load_lora_weights(lora | {f"transformer.{key}": value for key, value in norms.items()})

    lora_weights = lora_of(pipe.transformer, 0)
    in_order(pipe, load_control_lora, is_attached_first=is_attached_first)
    actual = generate(pipe, call)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    merge(other, ONE)
    assert not other.transformer.load_state_dict(norms, strict=False).unexpected_keys
    assert largest(detached, generate(other, call)) <= ROUNDING
    with alignvid.attach(other, RECIPE):
        assert largest(actual, generate(other, call)) <= ROUNDING
    assert largest(actual, detached) > 10 * ROUNDING
    alignvid.attach(pipe, RECIPE)
    pipe.unload_lora_weights()
    alignvid.detach(pipe)
    assert torch.equal(generate(pipe, call), original)


def norms_trained_in_full(pipe: DiffusionPipeline) -> None:
    """A LoRA with trained norms: peft puts a copy of each norm, within a wrapper, in its place."""
    config = LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False, modules_to_save=["norm_k"])
    inject_adapter_in_model(config, pipe.transformer)


@pytest.mark.parametrize("name", ["wan_i2v", "flux_kontext"])
def test_norms_that_are_replaced_after_attaching_are_an_error_and_leave_no_gain_behind(name):
    pipe, call = BUILDERS[name]()
    other = copy.deepcopy(pipe)
    torch.manual_seed(0)
    norms_trained_in_full(other)
    expected = generate(other, call)
    with alignvid.attach(pipe, RECIPE, steps=(0.0, 1.0)):
        generate(pipe, call)  # the gain is on when this run ends
        torch.manual_seed(0)
        norms_trained_in_full(pipe)
        with pytest.raises(
            AttachmentError, match=r"norm_k of block 0 .* another module than when the gain was attached"
        ):
            generate(pipe, call)
    assert torch.equal(generate(pipe, call), expected)


def test_norms_that_are_replaced_before_attaching_carry_the_gain():
    pipe, call = BUILDERS["wan_i2v"]()
    with alignvid.attach(pipe, RECIPE):
        expected = generate(pipe, call)
    config = LoraConfig(r=2, target_modules=["to_q"], modules_to_save=["norm_k"])  # new LoRAs change nothing
    inject_adapter_in_model(config, pipe.transformer)
    with alignvid.attach(pipe, RECIPE):
        assert torch.equal(generate(pipe, call), expected)


def test_another_transformer_in_the_pipeline_than_was_attached_to_is_said_at_the_end():
    pipe, call = BUILDERS["wan_i2v"]()
    plain = generate(pipe, call)
    attachment = alignvid.attach(pipe, RECIPE)
    pipe.transformer = copy.deepcopy(BUILDERS["wan_i2v"]()[0].transformer)
    with pytest.warns(ContractWarning, match="does not act in this run"):
        assert torch.equal(generate(pipe, call), plain)
    with pytest.warns(UserWarning, match=r"acted on nothing.*`transformer` .* another one than when"):
        attachment.detach()


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
