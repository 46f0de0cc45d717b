"""Wan-Animate 2: a person of a reference image moves as in a driving video, whose keys are computed once and kept.

Built as Wan 2.1 image-to-video. Before the first step of a segment one forward over the driving video computes its
keys of self-attention, and all steps keep them; no gain acts in it. So `image` is acted on in cross-attention alone,
and `video` are the tokens that are being made. The pipeline is a modular one.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time

REFUSAL = (
    "The keys of the driving video are computed once, before the first step, and kept for all others: a gain on them "
    "would act outside its window. Act on cross.image, or streams=['text']."
)
_SELF_KEYS = KeyNorm("norm_k", ("image", "video"), refusals=(("image", REFUSAL),))
_CROSS = Site(
    "cross", "cross_attn", (KeyNorm("norm_k", ("text",)), KeyNorm("norm_added_k", ("image",))), ignores_mask=True
)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """All keys are the driving video's where they are computed to be kept, and none after that."""
    return {"image": arguments["seq_len"] if is_preparation(arguments) else 0}


def is_preparation(arguments: Arguments) -> bool:
    """Whether keys are computed to be kept."""
    return arguments["kv_cache_mode"] == "extract"


FAMILY = Family(
    name="wan_animate2",
    transformers=("WanAnimate2Transformer3DModel",),
    pipelines=("WanAnimate2ModularPipeline",),
    stacks=(Stack("blocks", (Site("self", "self_attn", (_SELF_KEYS,), ignores_mask=True), _CROSS)),),
    reads=Reads(token_counts=token_counts),
    time=Time(is_preparation=is_preparation),
)
