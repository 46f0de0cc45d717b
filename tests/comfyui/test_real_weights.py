"""Weights as files hold them, in ComfyUI's own Wan: fp8 with scales by the core's loader, and GGUF.

ComfyUI's core reads no GGUF; packs give it operations of their own whose linear layers hold the packed bytes. The
loader here is one of that kind, of thirty lines, on the gguf package; ComfyUI-GGUF itself is not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import comfyui_core as core
from comfyui_aligned import POWERS, aligned
from comfyui_pack import pack

gguf = pytest.importorskip("gguf")
FP8 = torch.float8_e4m3fn
TEXT, SIZES = 32, {"dim": 64, "ffn_dim": 64, "text_dim": 32, "freq_dim": 32}  # blocks of 32 weights are packed at once
PROMPTS = core.conditioning(1, text=TEXT), core.conditioning(2, text=TEXT)


class Packed(core.comfy.ops.disable_weight_init):
    """Operations whose linear layers hold packed weights."""

    class Linear(nn.Module):
        def __init__(self, in_features: int, out_features: int, bias: bool = True, **_: Any) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
            self.weight, self.kind = nn.Parameter(torch.zeros(0), requires_grad=False), None

        def hold(self, packed: Any) -> None:
            self.weight.data, self.kind = torch.from_numpy(packed.data.copy()), packed.tensor_type

        def forward(self, inputs: Tensor) -> Tensor:
            weight = torch.from_numpy(gguf.dequantize(self.weight.numpy(), self.kind))
            return nn.functional.linear(inputs, weight.to(inputs.dtype), self.bias)


def written(transformer: nn.Module, file: Path, kind: Any) -> None:
    """A GGUF file of a transformer: matrices of linear layers packed, all else as it is."""
    writer = gguf.GGUFWriter(str(file), "wan")
    for name, weight in transformer.state_dict().items():
        values = weight.float().numpy()
        is_matrix = isinstance(transformer.get_submodule(name.rpartition(".")[0]), nn.Linear) and values.ndim == 2
        how = kind if is_matrix else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(values, how) if is_matrix else values.reshape(-1)
        writer.add_tensor(name, packed, raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def loaded(file: Path) -> Any:
    """A MODEL whose linear layers hold what is in the file."""
    config = core.wan_config(**SIZES)
    config.custom_operations = Packed
    model = config.get_model({}, device="cpu")
    transformer = model.diffusion_model
    rest = dict(transformer.named_parameters())
    for tensor in gguf.GGUFReader(str(file)).tensors:
        path, _, name = tensor.name.rpartition(".")
        module = transformer.get_submodule(path)
        if name == "weight" and isinstance(module, Packed.Linear):
            module.hold(tensor)
        else:
            rest[tensor.name].data.copy_(torch.from_numpy(tensor.data.copy()).reshape(rest[tensor.name].shape))
    return core.patcher_of(model.eval())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_packed_weights_are_as_exact(kind: str, tmp_path: Path) -> None:
    whole = core.wan(**SIZES)
    written(whole.model.diffusion_model, tmp_path / "wan.gguf", gguf.GGMLQuantizationType[kind])
    model = loaded(tmp_path / "wan.gguf")
    assert model.model.diffusion_model.blocks[0].cross_attn.k.weight.dtype is torch.uint8
    plain, expected = (
        core.sampled(one, prompts=PROMPTS)
        for one in (model, core.by_hand(model, POWERS, (0, 2), lambda sigma, number: True))
    )
    clone = aligned(model)
    torch.testing.assert_close(core.sampled(clone, prompts=PROMPTS), expected, atol=1e-6, rtol=1e-6)
    assert not torch.equal(plain, expected) and not torch.equal(plain, core.sampled(whole, prompts=PROMPTS))
    assert pack("patch").patch_of(clone).run.acted == 10 * 2
    assert torch.equal(core.sampled(model, prompts=PROMPTS), plain)


def test_a_file_of_fp8_weights_with_scales_is_as_exact() -> None:
    """As those of the example workflows: recognised, sized and loaded by the core from the names of its weights."""
    core.stand_in_for_torchaudio()
    import comfy.sd

    text = 4096  # of Wan's encoder, which the core takes for granted, as 128 numbers a head
    sizes = {"dim": 128, "num_heads": 1, "ffn_dim": 64, "text_dim": text, "freq_dim": 256}
    weights = core.wan(**sizes).model.diffusion_model.state_dict()
    for name, weight in list(weights.items()):
        if name.startswith("blocks.") and name.endswith("weight") and weight.ndim == 2:
            scale = weight.abs().max() / torch.finfo(FP8).max
            weights[name], weights[name.removesuffix("weight") + "scale_weight"] = (weight / scale).to(FP8), scale
    weights["scaled_fp8"] = torch.zeros(2, dtype=FP8)  # two: the products themselves are not in fp8
    with torch.inference_mode():  # as the server runs every node
        model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
    held = model.model.diffusion_model.blocks[0].cross_attn.k.weight
    assert "float8" in str(held.dtype) or "float8" in str(getattr(held, "_qdata", held).dtype)
    prompts = core.conditioning(1, text=text), core.conditioning(2, text=text)
    expected = core.sampled(core.by_hand(model, POWERS, (0, 2), lambda sigma, number: True), prompts=prompts)
    clone = aligned(model)
    torch.testing.assert_close(core.sampled(clone, prompts=prompts), expected, atol=1e-6, rtol=1e-6)
    assert expected.isfinite().all() and not torch.equal(expected, core.sampled(model, prompts=prompts))
    assert pack("patch").patch_of(clone).run.acted == 10 * 2
