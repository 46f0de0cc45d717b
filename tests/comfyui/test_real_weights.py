"""Weights as files hold them, in ComfyUI's own Wan: fp8 with scales by the core's loader, GGUF, and partly loaded.

ComfyUI's core reads no GGUF; packs give it operations of their own whose linear layers hold the packed bytes. The
loader here is one of that kind, of thirty lines, on the gguf package. ALIGNVID_COMFYUI_GGUF names a checkout of
ComfyUI-GGUF, whose own loader node is then run, too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
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
NEIGHBOUR = os.environ.get("ALIGNVID_COMFYUI_GGUF", "")
AS_WAN = {"dim": 128, "num_heads": 1, "ffn_dim": 64, "text_dim": 4096, "freq_dim": 256}
"""What the core takes for granted of Wan where it is recognised by its weights: its encoder, and 128 numbers a head."""
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
        if weight.ndim > 4:  # a file knows four axes
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(weight.shape))
        values = weight.float().numpy()
        is_matrix = isinstance(transformer.get_submodule(name.rpartition(".")[0]), nn.Linear) and values.ndim == 2
        how = kind if is_matrix else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(values, how) if is_matrix else values.reshape(-1) if values.ndim > 4 else values
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

    text = AS_WAN["text_dim"]
    weights = core.wan(**AS_WAN).model.diffusion_model.state_dict()
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


def neighbour() -> Any:
    """The nodes of ComfyUI-GGUF, imported as ComfyUI does."""
    core.stand_in_for_torchaudio()
    name = "comfyui_gguf_neighbour"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(NEIGHBOUR) / "__init__.py", submodule_search_locations=[NEIGHBOUR]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].NODE_CLASS_MAPPINGS


@pytest.mark.skipif(not NEIGHBOUR, reason="ALIGNVID_COMFYUI_GGUF=path of a checkout of ComfyUI-GGUF")
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_behind_the_loader_of_comfyui_gguf_it_is_as_exact(kind: str, tmp_path: Path) -> None:
    """Beside its own MODEL with keys scaled by hand; and, where it unpacks to float32, beside one of the core with the
    weights that those of the file are. With a LoRA, too.
    """
    nodes = neighbour()
    import folder_paths

    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    name, whole, how = f"tiny-{kind}.gguf", core.wan(**AS_WAN), gguf.GGMLQuantizationType[kind]
    transformer = whole.model.diffusion_model
    written(transformer, tmp_path / name, how)
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            packed = gguf.quantize(module.weight.numpy(), how)
            module.weight.data = torch.from_numpy(gguf.dequantize(packed, how))
    with torch.inference_mode():  # as the server runs every node
        (model,) = nodes["UnetLoaderGGUF"]().load_unet(name)
        precise = {"dequant_dtype": "float32", "patch_dtype": "float32", "patch_on_device": False}
        (exact,) = nodes["UnetLoaderGGUFAdvanced"]().load_unet(name, **precise)
    prompts = tuple(core.conditioning(seed, text=AS_WAN["text_dim"]) for seed in (1, 2))
    lora = {"diffusion_model.blocks.0.cross_attn.k.weight": ("diff", (core.drawn(128, 128, seed=4),))}
    for loaded_by_node, reference, error in ((model, model, 1e-6), (exact, whole, 5e-6)):
        for patches in ({}, lora):
            pair = [patcher.clone() for patcher in (loaded_by_node, reference)]
            for patcher in pair if patches else ():
                patcher.add_patches(patches, 0.05)
            clone = aligned(pair[0])
            found = core.sampled(clone, prompts=prompts)
            expected = core.sampled(core.by_hand(pair[1], POWERS, (0, 2), lambda sigma, number: True), prompts=prompts)
            torch.testing.assert_close(found, expected, atol=error, rtol=1e-5)
            assert not torch.equal(found, core.sampled(pair[0], prompts=prompts))
            assert pack("patch").patch_of(clone).run.acted == 10 * 2


@pytest.mark.parametrize("share", [0.0, 0.98])
def test_a_model_that_is_loaded_in_part_with_a_lora_on_it_is_as_exact(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a small GPU: the loader is given memory for a share of the weights, casts and patches the rest at each use.

    A CPU has all memory, and `--lowvram` cannot be combined with `--cpu`; so the budget is put in where the core asks
    for it, and what follows is the core's own.
    """
    model, kind = core.wan(), core.comfy.model_patcher.ModelPatcher
    plain, load = core.sampled(model), kind.load

    def with_little(self: Any, device_to: Any = None, lowvram_model_memory: Any = 0, *args: Any, **more: Any) -> Any:
        more["full_load"] = False
        return load(self, device_to, max(0.1, share * self.model_size()), *args, **more)

    shapes = {"cross_attn.k.weight": (core.WIDTH, core.WIDTH), "cross_attn.norm_k.weight": (core.WIDTH,)}
    patches = {
        f"diffusion_model.blocks.{block}.{name}": ("diff", (core.drawn(*shape, seed=block),))
        for block in range(4)
        for name, shape in shapes.items()
    }
    model_with = model.clone()
    model_with.add_patches(patches, 0.3)
    expected = core.sampled(core.by_hand(model_with, POWERS, (0, 2), lambda sigma, number: True))
    monkeypatch.setattr(kind, "load", with_little)
    core.comfy.model_management.unload_all_models()
    clone = aligned(model_with)
    found = core.sampled(clone)
    inner = model.model
    casting = [module for module in inner.modules() if hasattr(module, "prev_comfy_cast_weights")]
    whole = [module for module in inner.modules() if getattr(module, "comfy_patched_weights", False)]
    assert inner.model_lowvram and inner.lowvram_patch_counter > 0 and casting
    assert bool(whole) == bool(share)  # some layers in full, the others cast at each use
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(expected, plain) and pack("patch").patch_of(clone).run.acted == 10 * 2
    core.comfy.model_management.unload_all_models()
    monkeypatch.undo()
    assert torch.equal(core.sampled(model), plain)
