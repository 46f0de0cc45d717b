"""Techniques of diffusers, attached before and after, against the same weights and maths without the technique.

Each row says how the technique is applied to a pipeline, and how a second pipeline of the same seed is made that must
give the same output without it: weights merged, rounded or read back by hand. The tolerance stands in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor

import alignvid
from alignvid import StepWindow
from five import BUILDERS, FIVE, RECIPE, SLOW_BUT_TWO
from loras import ONE, TWO, load, merge
from offloading import as_a_whole, in_groups_of_blocks, in_groups_of_leaves, sequentially
from pipelines import generate
from quantising import read_back, to_fp8_storage, to_int8, to_llm_int8, to_nf4

ROUNDING = 2e-5  # float32 sums in another order, through every block and step


class Technique(NamedTuple):
    """How a technique is applied, and the same without it."""

    apply: Callable[[DiffusionPipeline], None]
    reference: Callable[[DiffusionPipeline, DiffusionPipeline], None]
    """Gives the second pipeline what the first one computes with."""
    tolerance: float
    changes_the_model: bool = False


def nothing(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    """Without the technique the model is the same."""


def load_one(pipe: DiffusionPipeline) -> None:
    load(pipe, ONE)


def load_two(pipe: DiffusionPipeline) -> None:
    load(pipe, TWO)


def fuse(pipe: DiffusionPipeline) -> None:
    load(pipe, TWO)
    pipe.transformer.fuse_lora()


def load_and_unload(pipe: DiffusionPipeline) -> None:
    load(pipe, ONE)
    pipe.transformer.unload_lora()


def merge_one(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    merge(pipe, ONE)


def merge_two(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    merge(pipe, TWO)


def with_lora(quantise: Callable[[DiffusionPipeline], None]) -> Callable[[DiffusionPipeline], None]:
    """Quantised first, as a user who loads quantised weights does."""

    def apply(pipe: DiffusionPipeline) -> None:
        quantise(pipe)
        load(pipe, ONE)

    return apply


def read_back_and_merge(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    read_back(pipe, technique)
    merge(pipe, ONE)


def lora_in_fp8_storage(pipe: DiffusionPipeline) -> None:
    """In this order: after casting, peft would compute in fp8, which a CPU cannot; unattached, too."""
    load(pipe, ONE)
    to_fp8_storage(pipe)


def fuse_projections(pipe: DiffusionPipeline) -> None:
    pipe.transformer.fuse_qkv_projections()


def backend(name: str) -> Callable[[DiffusionPipeline], None]:
    def apply(pipe: DiffusionPipeline) -> None:
        pipe.transformer.set_attention_backend(name)
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)  # it was set for the reference, too
        assert name in {getattr(module, "_attention_backend", None) for module in processors(pipe)}

    return apply


def processors(pipe: DiffusionPipeline) -> list[Any]:
    return [module.processor for module in pipe.transformer.modules() if hasattr(module, "processor")]


TECHNIQUES = {
    "LoRA": Technique(load_one, merge_one, ROUNDING, changes_the_model=True),
    "two LoRAs": Technique(load_two, merge_two, ROUNDING, changes_the_model=True),
    "fused LoRAs": Technique(fuse, merge_two, ROUNDING, changes_the_model=True),
    "LoRA taken off": Technique(load_and_unload, nothing, 0.0),
    "torchao int8, weights only": Technique(to_int8, read_back, ROUNDING, changes_the_model=True),
    "torchao int8 and LoRA": Technique(with_lora(to_int8), read_back_and_merge, ROUNDING, changes_the_model=True),
    "bitsandbytes nf4": Technique(to_nf4, read_back, ROUNDING, changes_the_model=True),
    "bitsandbytes nf4 and LoRA": Technique(with_lora(to_nf4), read_back_and_merge, ROUNDING, changes_the_model=True),
    "fp8 storage": Technique(to_fp8_storage, read_back, 0.0, changes_the_model=True),
    "fp8 storage and LoRA": Technique(lora_in_fp8_storage, read_back_and_merge, ROUNDING, changes_the_model=True),
    "fused QKV": Technique(fuse_projections, nothing, ROUNDING),
    "attention: native": Technique(backend("native"), nothing, 0.0),
    "attention: _native_math": Technique(backend("_native_math"), nothing, ROUNDING),
    "attention: _native_flash": Technique(backend("_native_flash"), nothing, ROUNDING),
    "attention: flex": Technique(backend("flex"), nothing, ROUNDING),
    "group offload, leaves": Technique(in_groups_of_leaves, nothing, 0.0),
    "group offload, blocks": Technique(in_groups_of_blocks, nothing, 0.0),
    "sequential offload": Technique(sequentially, nothing, 0.0),
    "model offload": Technique(as_a_whole, nothing, 0.0),
}
BACKENDS = [name.removeprefix("attention: ") for name in TECHNIQUES if name.startswith("attention: ")]
IMPOSSIBLE = [
    ("framepack_v1", "fused QKV"),  # it has no `fuse_qkv_projections`
    ("qwen_image_edit", "attention: _native_flash"),  # which takes no mask of the text
    *(("cogvideox_i2v", f"attention: {name}") for name in BACKENDS),  # it calls torch's attention itself
]
ON_WAN_ALONE = [name for name in TECHNIQUES if name.endswith(" and LoRA")]
RUNS = [
    pytest.param(name, combination, marks=SLOW_BUT_TWO[name])
    for name in FIVE
    for combination in TECHNIQUES
    if (name, combination) not in IMPOSSIBLE and (name == "wan_i2v" or combination not in ON_WAN_ALONE)
]


@pytest.mark.combines
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # what peft says to any second adapter
@pytest.mark.filterwarnings("ignore:TorchaoLoraLinear was instantiated")  # peft, of merging
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # torch: it is for tests only, so
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "attached afterwards"])
@pytest.mark.parametrize(("name", "combination"), RUNS)
def test_the_output_is_that_of_the_same_model_without_the_technique(
    name, combination, is_attached_first, record_property
):
    technique = TECHNIQUES[combination]
    pipe, call = BUILDERS[name]()
    other, _ = BUILDERS[name]()
    call = call | {"num_inference_steps": 2}
    steps = [lambda: alignvid.attach(pipe, RECIPE), lambda: technique.apply(pipe)]
    for step in steps if is_attached_first else reversed(steps):
        step()
    actual = generate(pipe, call)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    original = generate(other, call)
    technique.reference(other, pipe)
    plain = generate(other, call)
    with alignvid.attach(other, RECIPE):
        expected = generate(other, call)
    assert largest(actual, expected) <= technique.tolerance
    assert largest(detached, plain) <= technique.tolerance
    assert largest(actual, detached) > 10 * technique.tolerance
    assert (largest(plain, original) > 10 * technique.tolerance) == technique.changes_the_model
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.combines
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "attached afterwards"])
@pytest.mark.parametrize("combination", ["bitsandbytes int8"])
@pytest.mark.parametrize("name", ["wan_i2v"])
def test_layers_that_round_their_inputs_meet_keys_as_if_the_gain_were_in_the_weights_of_the_norms(
    name, combination, is_attached_first
):
    """Powers of two, which round nothing: a last bit would grow to a step of the next layer's int8."""
    pipe, call = BUILDERS[name]()
    other, _ = BUILDERS[name]()
    steps = [
        lambda: alignvid.attach(pipe, RECIPE, gamma=2.0, steps=StepWindow.all()),
        lambda: to_llm_int8(pipe),
    ]
    for step in steps if is_attached_first else reversed(steps):
        step()
    to_llm_int8(other)
    plain = generate(other, call)
    with torch.no_grad():
        for block in other.transformer.blocks:
            block.attn1.norm_k.weight *= 2.0
            block.attn2.norm_k.weight *= 4.0
            block.attn2.norm_added_k.weight *= 2.0
    actual = generate(pipe, call)
    assert torch.equal(actual, generate(other, call))
    assert largest(actual, plain) > ROUNDING


@pytest.mark.filterwarnings("ignore:.*kernel not used:UserWarning", "ignore:.*CUDNN|.*cuDNN|.*not built:UserWarning")
@pytest.mark.parametrize("name", [backend.value for backend in AttentionBackendName if backend.value not in BACKENDS])
def test_every_other_attention_backend_refuses_a_cpu_or_wants_a_package(name):
    """What docs/compatibility.md says of them; diffusers' own refusals, attached or not."""
    pipe, call = BUILDERS["flux_kontext"]()
    try:
        with (
            pytest.raises(RuntimeError, match=r"is not usable because|No viable backend"),
            alignvid.attach(pipe, RECIPE),
        ):
            pipe.transformer.set_attention_backend(name)
            generate(pipe, call)
    finally:
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)


def test_no_attention_of_cogvideox_takes_a_backend():
    """So that choosing one does nothing: an empty row in the table."""
    pipe, _ = BUILDERS["cogvideox_i2v"]()
    assert not any(hasattr(processor, "_attention_backend") for processor in processors(pipe))


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
