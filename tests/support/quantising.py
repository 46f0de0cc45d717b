"""Ways to quantise a transformer in place, and the weights that it computes with afterwards.

torchao and bitsandbytes are not in the test extra: the first writes to stderr at every import of diffusers on a CPU,
the second takes 125 MB. `make test-quantised` installs them apart and runs what needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn


def to_int8(pipe: DiffusionPipeline) -> None:
    """By torchao: weights only."""
    quantization = pytest.importorskip("torchao.quantization")
    linear = {"filter_fn": lambda module, name: isinstance(module, nn.Linear)}
    quantization.quantize_(pipe.transformer, quantization.Int8WeightOnlyConfig(version=2), **linear)


def to_fp8_storage(pipe: DiffusionPipeline) -> None:
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def to_nf4(pipe: DiffusionPipeline) -> None:
    """By bitsandbytes; its layers are put in by hand, as diffusers' loader of them wants a GPU."""
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def layer(linear: nn.Linear) -> nn.Module:
        size = (linear.in_features, linear.out_features, linear.bias is not None)
        quantised = bitsandbytes.nn.Linear4bit(*size, compute_dtype=torch.float32, quant_type="nf4")
        quantised.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
        quantised.bias = linear.bias
        return quantised.to("cpu")  # this quantises

    _replace_linears(pipe, layer)


def to_llm_int8(pipe: DiffusionPipeline) -> None:
    """By bitsandbytes: weights and inputs; its layers are put in by hand, too."""
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def layer(linear: nn.Linear) -> nn.Module:
        size = (linear.in_features, linear.out_features, linear.bias is not None)
        quantised = bitsandbytes.nn.Linear8bitLt(*size, has_fp16_weights=False)
        quantised.load_state_dict(linear.state_dict())
        return quantised.eval().to("cpu")  # this quantises

    _replace_linears(pipe, layer)


def read_back(pipe: DiffusionPipeline, quantised: DiffusionPipeline) -> None:
    """Give a pipeline the weights that another computes with, in float32; those of a LoRA are left out."""
    weights = {}
    for module_name, module in quantised.transformer.named_modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            weights[f"{module_name}.{name}".replace(".base_layer.", ".").removeprefix(".")] = _in_float32(value)
    pipe.transformer.load_state_dict({name: weights[name] for name in pipe.transformer.state_dict()})


def _in_float32(value: Any) -> Tensor:
    if type(value).__name__ == "Params4bit":
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(value.data, value.quant_state)
    return (value if type(value) in (Tensor, nn.Parameter) else value.dequantize()).detach().float()


def _replace_linears(pipe: DiffusionPipeline, layer: Callable[[nn.Linear], nn.Module]) -> None:
    """All but those that diffusers' loaders keep as they are in this class."""
    kept = getattr(pipe.transformer, "_keep_in_fp32_modules", None) or []
    for name, module in list(pipe.transformer.named_modules()):
        for child_name, child in list(module.named_children()):
            if type(child) is nn.Linear and not any(part in f"{name}.{child_name}".split(".") for part in kept):
                setattr(module, child_name, layer(child))
