"""Transformers loaded from a GGUF file that the test writes: as with the weights that the file holds, read back.

diffusers loads such a file for Wan, Flux and Qwen-Image; the classes of FramePack and CogVideoX cannot.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import DiffusionPipeline, GGUFQuantizationConfig
from gguf import GGMLQuantizationType
from torch import Tensor, nn

import alignvid
from five import BUILDERS, RECIPE
from loras import ONE, load, merge
from pipelines import generate, ready

BLOCK = 32  # a file holds weights in blocks of so many columns, with a scale for each
ROUNDING = 2e-5  # float32 sums in another order, through every block and step
KINDS = {"GGUF file, Q8_0": GGMLQuantizationType.Q8_0, "GGUF file, Q4_0": GGMLQuantizationType.Q4_0}
WIDER: dict[str, dict[str, Any]] = {
    "wan_i2v": {"attention_head_dim": 16, "added_kv_proj_dim": 32},
    "flux_kontext": {},
    "qwen_image_edit": {"num_attention_heads": 2},
}
"""What makes the width of each tiny transformer a multiple of a block."""


@pytest.mark.combines
@pytest.mark.parametrize("combination", KINDS)
@pytest.mark.parametrize("name", WIDER)
def test_a_file_of_quantised_weights_computes_as_these_weights_read_back(name, combination, tmp_path, record_property):
    pipe, call = wider(name)
    original = generate(pipe, call)
    other = copy.deepcopy(pipe)
    load_from_a_file(pipe, tmp_path, KINDS[combination])
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        actual = generate(pipe, call)
    other.transformer.load_state_dict(read_back(tmp_path))
    assert largest(plain, generate(other, call)) <= ROUNDING
    with alignvid.attach(other, RECIPE):
        assert largest(actual, generate(other, call)) <= ROUNDING
    assert largest(actual, plain) > 10 * ROUNDING
    assert largest(plain, original) > 10 * ROUNDING
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["GGUF file and LoRA"])
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "LoRA first"])
@pytest.mark.parametrize("name", ["wan_i2v"])
def test_a_lora_on_quantised_weights_is_as_merged_into_them(name, combination, is_attached_first, tmp_path):
    pipe, call = wider(name)
    other = copy.deepcopy(pipe)
    load_from_a_file(pipe, tmp_path, GGMLQuantizationType.Q8_0)
    plain = generate(pipe, call)
    steps = [lambda: alignvid.attach(pipe, RECIPE), lambda: load(pipe, ONE)]
    for step in steps if is_attached_first else reversed(steps):
        step()
    actual = generate(pipe, call)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    other.transformer.load_state_dict(read_back(tmp_path))
    merge(other, ONE)
    assert largest(detached, generate(other, call)) <= ROUNDING
    with alignvid.attach(other, RECIPE):
        assert largest(actual, generate(other, call)) <= ROUNDING
    assert largest(actual, detached) > 10 * ROUNDING
    assert largest(detached, plain) > 10 * ROUNDING


@pytest.mark.parametrize("name", ["framepack_v1", "cogvideox_i2v"])
def test_the_other_two_classes_load_no_single_file(name, tmp_path):
    """Why their cells in the table are empty."""
    transformer = BUILDERS[name]()[0].transformer
    with pytest.raises((AttributeError, ValueError), match=r"from_single_file|currently only compatible with"):
        type(transformer).from_single_file(tmp_path / "model.gguf")


def wider(name: str) -> tuple[DiffusionPipeline, dict[str, Any]]:
    """A tiny pipeline whose transformer is as wide as a block, or two."""
    pipe, call = BUILDERS[name]()
    torch.manual_seed(0)
    pipe.transformer = type(pipe.transformer).from_config(dict(pipe.transformer.config) | WIDER[name])
    return ready(pipe), call | {"num_inference_steps": 2}


def load_from_a_file(pipe: DiffusionPipeline, folder: Path, kind: GGMLQuantizationType) -> None:
    """Write the pipeline's transformer as a GGUF file, and load it from there as a user does."""
    write(pipe.transformer, folder / "model.gguf", kind)
    pipe.transformer.save_config(folder)
    pipe.transformer = type(pipe.transformer).from_single_file(
        str(folder / "model.gguf"),
        config=str(folder),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    quantised = [module for module in pipe.transformer.modules() if type(module).__name__ == "GGUFLinear"]
    assert any(module.weight.dtype == torch.uint8 for module in quantised)


def write(transformer: nn.Module, file: Path, kind: GGMLQuantizationType) -> None:
    """A file in which every linear layer whose width allows it is quantised, the rest as it is."""
    linear = {f"{name}.weight" for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    writer = gguf.GGUFWriter(file, "test")
    for name, value in transformer.state_dict().items():
        if name in linear and value.shape[-1] % BLOCK == 0:
            writer.add_tensor(name, gguf.quants.quantize(value.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_back(folder: Path) -> dict[str, Tensor]:
    """The weights in a file, by the `gguf` package; diffusers multiplies by a block's scale in float16."""
    weights = {}
    for tensor in gguf.GGUFReader(folder / "model.gguf").tensors:
        values = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        weights[tensor.name] = values.half().float() if tensor.tensor_type in KINDS.values() else values
    return weights


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
