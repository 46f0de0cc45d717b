"""GGUF weights in ComfyUI's own Wan: a real file of packed tensors, unpacked at each use.

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
TEXT, SIZES = 32, {"dim": 64, "ffn_dim": 64, "text_dim": 32, "freq_dim": 32}  # blocks of 32 weights are packed at once
PROMPTS = core.conditioning(1, text=TEXT), core.conditioning(2, text=TEXT)


class Packed(core.comfy.ops.disable_weight_init):
    """Operations whose linear layers hold packed weights."""

    class Linear(nn.Module):
        def __init__(self, in_features: int, out_features: int, bias: bool = True, **_: Any) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
            self.packed: Any = None

        def forward(self, inputs: Tensor) -> Tensor:
            weight = torch.from_numpy(gguf.dequantize(self.packed.data, self.packed.tensor_type))
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
            module.packed = tensor
        else:
            rest[tensor.name].data.copy_(torch.from_numpy(tensor.data.copy()).reshape(rest[tensor.name].shape))
    return core.patcher_of(model.eval())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_packed_weights_are_as_exact(kind: str, tmp_path: Path) -> None:
    whole = core.wan(**SIZES)
    written(whole.model.diffusion_model, tmp_path / "wan.gguf", gguf.GGMLQuantizationType[kind])
    model = loaded(tmp_path / "wan.gguf")
    assert model.model.diffusion_model.blocks[0].cross_attn.k.packed.data.dtype == "uint8"
    plain, expected = (
        core.sampled(one, prompts=PROMPTS)
        for one in (model, core.by_hand(model, POWERS, (0, 2), lambda sigma, number: True))
    )
    clone = aligned(model)
    torch.testing.assert_close(core.sampled(clone, prompts=PROMPTS), expected, atol=1e-6, rtol=1e-6)
    assert not torch.equal(plain, expected) and not torch.equal(plain, core.sampled(whole, prompts=PROMPTS))
    assert pack("patch").patch_of(clone).run.acted == 10 * 2
    assert torch.equal(core.sampled(model, prompts=PROMPTS), plain)
