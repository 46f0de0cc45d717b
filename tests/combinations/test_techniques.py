"""Techniques of diffusers, attached before and after, against the same weights and maths without the technique.

Each row says how the technique is applied to a pipeline, and how a second pipeline of the same seed is made that shall
give the same output without it: weights merged, rounded or read back by hand. The tolerance stands in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading
from torch import Tensor, nn

import alignvid
from five import BUILDERS, FIVE, RECIPE, SLOW_BUT_TWO
from pipelines import generate

CPU = torch.device("cpu")
ROUNDING = 2e-5  # float32 sums in another order, through every block and step
RANK = 2


class Technique(NamedTuple):
    """How a technique is applied, and the same without it."""

    apply: Callable[[DiffusionPipeline], None]
    reference: Callable[[DiffusionPipeline, DiffusionPipeline], None]
    """Gives the second pipeline what the first one computes with."""
    tolerance: float
    changes_the_model: bool = False


def nothing(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    """Without the technique the model is the same."""


def lora_of(transformer: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of a LoRA for the projections of every attention, in the format of peft."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ("to_q", "to_k", "to_v"):
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=generator)
            weights[f"{name}.lora_B.weight"] = torch.randn(module.out_features, RANK, generator=generator) / 10
    return weights


def load(pipe: DiffusionPipeline, adapters: dict[str, float]) -> None:
    loras = [lora_of(pipe.transformer, seed) for seed in range(len(adapters))]  # before a loaded one renames modules
    for lora, adapter in zip(loras, adapters, strict=True):
        state = {f"transformer.{key}": value for key, value in lora.items()}
        pipe.transformer.load_lora_adapter(state, adapter_name=adapter)
    pipe.transformer.set_adapters(list(adapters), list(adapters.values()))


def merge(pipe: DiffusionPipeline, adapters: dict[str, float]) -> None:
    """The same by hand: W + scale * B A."""
    with torch.no_grad():
        for seed, scale in enumerate(adapters.values()):
            weights = lora_of(pipe.transformer, seed)
            for key in weights:
                if key.endswith(".lora_A.weight"):
                    name = key.removesuffix(".lora_A.weight")
                    delta = weights[f"{name}.lora_B.weight"] @ weights[key]
                    pipe.transformer.get_submodule(name).weight += scale * delta


ONE, TWO = {"first": 1.0}, {"first": 0.7, "second": 0.4}


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


def to_int8(pipe: DiffusionPipeline) -> None:
    """Not among the test extra: installed, it writes to stderr at every import of diffusers on a CPU."""
    quantization = pytest.importorskip("torchao.quantization")
    linear = {"filter_fn": lambda module, name: isinstance(module, nn.Linear)}
    quantization.quantize_(pipe.transformer, quantization.Int8WeightOnlyConfig(version=2), **linear)


def dequantised(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    """The weights as they are stored, in float32."""
    state = {
        name: value.dequantize() if hasattr(value, "dequantize") and type(value) is not nn.Parameter else value
        for name, value in technique.transformer.state_dict().items()
    }
    pipe.transformer.load_state_dict({name: value.float() for name, value in state.items()})


def to_fp8_storage(pipe: DiffusionPipeline) -> None:
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def rounded(pipe: DiffusionPipeline, technique: DiffusionPipeline) -> None:
    state = technique.transformer.state_dict()
    pipe.transformer.load_state_dict({name: value.float() for name, value in state.items()})


def fuse_projections(pipe: DiffusionPipeline) -> None:
    pipe.transformer.fuse_qkv_projections()


def backend(name: str) -> Callable[[DiffusionPipeline], None]:
    return lambda pipe: pipe.transformer.set_attention_backend(name)


def in_groups_of_leaves(pipe: DiffusionPipeline) -> None:
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")


def in_groups_of_blocks(pipe: DiffusionPipeline) -> None:
    groups = {"offload_type": "block_level", "num_blocks_per_group": 1}
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, **groups)


def sequentially(pipe: DiffusionPipeline) -> None:
    """As `enable_sequential_cpu_offload`, which itself refuses a machine without an accelerator."""
    for component in (pipe.vae, pipe.transformer):
        cpu_offload(component, execution_device=CPU)


def as_a_whole(pipe: DiffusionPipeline) -> None:
    """As `enable_model_cpu_offload`, which refuses such a machine too."""
    cpu_offload_with_hook(pipe.transformer, execution_device=CPU)


TECHNIQUES = {
    "LoRA": Technique(load_one, merge_one, ROUNDING, changes_the_model=True),
    "two LoRAs": Technique(load_two, merge_two, ROUNDING, changes_the_model=True),
    "fused LoRAs": Technique(fuse, merge_two, ROUNDING, changes_the_model=True),
    "LoRA taken off": Technique(load_and_unload, nothing, 0.0),
    "torchao int8, weights only": Technique(to_int8, dequantised, ROUNDING, changes_the_model=True),
    "fp8 storage": Technique(to_fp8_storage, rounded, 0.0, changes_the_model=True),
    "fused QKV": Technique(fuse_projections, nothing, ROUNDING),
    "attention: native": Technique(backend("native"), nothing, 0.0),
    "attention: _native_math": Technique(backend("_native_math"), nothing, ROUNDING),
    "group offload, leaves": Technique(in_groups_of_leaves, nothing, 0.0),
    "group offload, blocks": Technique(in_groups_of_blocks, nothing, 0.0),
    "sequential offload": Technique(sequentially, nothing, 0.0),
    "model offload": Technique(as_a_whole, nothing, 0.0),
}
IMPOSSIBLE = [("framepack_v1", "fused QKV")]
"""It has no `fuse_qkv_projections`."""
RUNS = [
    pytest.param(name, combination, marks=SLOW_BUT_TWO[name])
    for name in FIVE
    for combination in TECHNIQUES
    if (name, combination) not in IMPOSSIBLE
]


@pytest.mark.combines
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # what peft says to any second adapter
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


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
