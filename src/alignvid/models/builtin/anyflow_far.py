"""AnyFlow FAR: video chunk by chunk, each looking back on the chunks before by keys that were kept.

Built as AnyFlow. After each chunk one forward at noise level 0 computes the keys of self-attention that all later
chunks look back on; no gain acts in it. `video` are the tokens of the chunk that is being made.
"""

from __future__ import annotations

from alignvid.models.builtin.anyflow import FAMILY as ANYFLOW
from alignvid.models.family import Arguments, Family, Time


def is_preparation(arguments: Arguments) -> bool:
    """Whether keys are computed to be kept."""
    return bool((arguments.get("kv_cache_flag") or {}).get("is_cache_step"))


FAMILY = Family(
    name="anyflow_far",
    transformers=("AnyFlowFARTransformer3DModel",),
    pipelines=("AnyFlowFARPipeline",),
    stacks=ANYFLOW.stacks,
    time=Time(is_preparation=is_preparation, batch_order=ANYFLOW.time.batch_order),
)
