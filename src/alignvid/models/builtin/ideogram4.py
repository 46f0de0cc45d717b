"""Ideogram 4: text-to-image, one stack of joint blocks over [text | video].

Guidance has a transformer of its own for the unconditional pass, which is given no text. Text is padded at its
beginning, and masked there. Roles of the tokens are one tensor, the same at every step; it is read once, which is one
transfer from the device. Timesteps ascend from 0 at pure noise to 1.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import UNCONDITIONAL, Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.per_tensor import PerTensor

_PICTURE = 2  # role of a token in diffusers: OUTPUT_IMAGE_INDICATOR

_pictures = PerTensor[int]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a transformer; the pipeline says whether it is the one without text."""
    other = getattr(pipeline, "components", {}).get(UNCONDITIONAL)
    has_text = getattr(other, "_orig_mod", other) is not transformer  # torch.compile(model) keeps the model there
    streams = ("text", "video") if has_text else ("video",)
    return (Stack("layers", (Site("single", "attention", (KeyNorm("norm_k", streams),)),)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the picture by their role, once per layout; the rest is text."""
    roles = arguments["indicator"]
    return {"video": _pictures.of(roles, lambda: int(roles[0].eq(_PICTURE).sum()))}


WORDS_REFUSAL = "the pipeline packs text and picture into one sequence before the transformer is given them."


FAMILY = Family(
    name="ideogram4",
    transformers=("Ideogram4Transformer2DModel",),
    pipelines=("Ideogram4Pipeline", "Ideogram4ModularPipeline"),
    stacks=stacks,
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts),
    time=Time(scale=1.0, is_ascending=True),
)
