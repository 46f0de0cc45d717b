"""A script: attach where only torch and small pure-Python packages can be imported, and say what happened as JSON.

The transformer is plain torch and its softmax is written out. Run by tests/test_light_core.py with the other packages
blocked, and by `make test-light` in an environment that does not have them.
"""

from __future__ import annotations

import json
import math
import pkgutil
import sys
from importlib import import_module
from typing import Any

BLOCKED = (
    "accelerate av click cv2 diffusers ftfy huggingface_hub matplotlib numpy peft PIL pydantic rich "
    "safetensors scipy statsmodels tokenizers torchvision tqdm transformers"
).split()
"""By name: what alignvid's other parts use, and must not be imported by attaching."""

CORE = "attachment errors host models modulation plugins presets recipe schedule".split()
"""Modules and packages of alignvid that need torch alone."""

WIDTH, HEADS, BLOCKS, TEXT, VIDEO = 24, 2, 3, 5, 7


def main(is_blocking: bool) -> dict[str, Any]:
    if is_blocking:
        sys.modules.update(dict.fromkeys(BLOCKED))  # None there: as if it were not installed, also to find_spec
    import torch

    before = set(sys.modules)
    core = [name for part in CORE for name in modules_below(f"alignvid.{part}")]
    for name in core:
        import_module(name)
    outcome = attach_and_run(torch)
    imported = {name.partition(".")[0] for name in set(sys.modules) - before}
    return {
        "core_modules": len(core),
        "packages": sorted(imported - sys.stdlib_module_names - {"alignvid", "torch"}),
        "heavy": sorted(name for name in BLOCKED if name in imported),
        **outcome,
    }


def modules_below(name: str) -> list[str]:
    """A module, and all that lie in it."""
    module = import_module(name)
    found = pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}.")
    return [name, *(item.name for item in found)]


def attach_and_run(torch: Any) -> dict[str, Any]:
    import alignvid
    from alignvid.models.family import Family, KeyNorm, Site, Stack
    from alignvid.models.registry import families, register

    plain_transformer = transformer_class(torch)
    known = len(families())
    register(
        Family(
            name="plain",
            transformers=(f"{__name__}:{plain_transformer.__name__}",),
            stacks=(Stack("blocks", (Site("cross", "attention", (KeyNorm("norm_k", ("text",)),)),)),),
        )
    )
    torch.manual_seed(0)
    model = plain_transformer().eval()
    early, late = (
        {"x": torch.randn(1, VIDEO, WIDTH), "text": torch.randn(1, TEXT, WIDTH), "timestep": torch.tensor([level])}
        for level in (999.0, 1.0)
    )
    window = alignvid.StepWindow.noise_above(0.9)
    with torch.no_grad():
        plain = model(**early), model(**late)
        classes = [type(module) for module in model.modules()]
        found: dict[str, Any] = {"families": known}
        for gamma in (1.0, 2.0, 1.35):
            expected = model(**early, gain=gamma)
            recipe = alignvid.Recipe(
                alignvid.Scalar(gamma=gamma, powers={"cross.text": 1.0}), alignvid.BlockSet.of("all"), window
            )
            with alignvid.attach(model, recipe) as attachment:
                inside, outside = model(**early), model(**late)
            found[f"error at {gamma:g}"] = (inside - expected).abs().max().item()
            found[f"moved at {gamma:g}"] = (inside - plain[0]).abs().max().item()
            found[f"outside at {gamma:g}"] = torch.equal(outside, plain[1])
            found[f"summary at {gamma:g}"] = str(attachment)
        found["restored"] = torch.equal(model(**early), plain[0])
        found["same classes"] = [type(module) for module in model.modules()] == classes
    return found


def transformer_class(torch: Any) -> type:
    nn = torch.nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
            self.norm_q, self.norm_k = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

        def forward(self, x: Any, text: Any, gain: float) -> Any:
            query, key, value = self.norm_q(self.q(x)), self.norm_k(self.k(text)), self.v(text)
            query, key, value = (tokens.unflatten(2, (HEADS, -1)).transpose(1, 2) for tokens in (query, key, value))
            weights = torch.softmax(gain * (query @ key.mT) / math.sqrt(WIDTH / HEADS), dim=-1)
            return (weights @ value).transpose(1, 2).flatten(2)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention()

        def forward(self, x: Any, text: Any, gain: float) -> Any:
            return x + self.attention(x, text, gain)

    class PlainVideoTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))

        def forward(self, x: Any, text: Any, timestep: Any, gain: float = 1.0) -> Any:
            x = x + timestep / 1000
            for block in self.blocks:
                x = block(x, text, gain)
            return x

    return PlainVideoTransformer


if __name__ == "__main__":
    print(json.dumps(main(is_blocking="--block" in sys.argv)))
