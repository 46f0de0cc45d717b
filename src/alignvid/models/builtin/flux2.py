"""Flux 2 and its Klein models: text-to-image, and editing of reference pictures.

Keys lie as [text | video | image], marked by the first of their position ids; `image` are the references. The pipeline
with a key cache (Klein KV) puts references before the generated picture, [text | image | video], computes their keys at
the first step and keeps them, gain included, for all later steps. A gain on `image` would leave its window there, so it
is refused; text and video are as in the others.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.flux import counts_by_ids
from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time, class_name

_KEEPS_KEYS = "Flux2KleinKVPipeline"
_REFUSAL = (
    "This pipeline computes the keys of the reference image once, at the first step, and keeps them for all others: a "
    "gain on them would act outside its window; use Flux2KleinPipeline, or streams=['text']."
)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a Flux 2 transformer; the pipeline says where the references lie."""
    keeps_keys = class_name(pipeline) == _KEEPS_KEYS
    pictures = ("image", "video") if keeps_keys else ("video", "image")
    refusals = (("image", _REFUSAL),) if keeps_keys else ()
    norms = (KeyNorm("norm_k", pictures, refusals=refusals), KeyNorm("norm_added_k", ("text",)))
    double = Site("double", "attn", norms, is_joint=True, joint_order=("text", *pictures), ignores_mask=keeps_keys)
    single = Site(
        "single", "attn", (KeyNorm("norm_k", ("text", *pictures), refusals=refusals),), ignores_mask=keeps_keys
    )
    return Stack("transformer_blocks", (double,)), Stack("single_transformer_blocks", (single,))


FAMILY = Family(
    name="flux2",
    transformers=("Flux2Transformer2DModel",),
    pipelines=("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline", _KEEPS_KEYS),
    stacks=stacks,
    reads=Reads(token_counts=counts_by_ids(first_reference=10)),  # none once their keys are kept
    time=Time(scale=1.0),
)
