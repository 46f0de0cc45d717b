"""Flux 3 and its distilled model: text-to-image, and editing of reference pictures.

Text, generated picture and references each run through blocks of their own first, where all keys are of one stream;
these are left out. The joint blocks see [text | video | image]; `image` are the references, which the forward is given
apart. Text is padded to a multiple of 80 tokens, and the padding counts to it, for the model attends to it. The
pipelines are modular ones.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "video", "image")),))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, references from their latents; the rest is video."""
    references = arguments.get("image_cond_hidden_states")
    image = 0 if references is None else references.shape[1]
    return {"text": arguments["encoder_hidden_states"].shape[1], "image": image}


FAMILY = Family(
    name="flux3",
    transformers=("Flux3Transformer2DModel",),
    pipelines=("Flux3ModularPipeline", "Flux3DistilledModularPipeline"),
    stacks=(Stack("single_transformer_blocks", (_SINGLE,)),),
    reads=Reads(token_counts=token_counts),
    time=Time(scale=1.0),
)
