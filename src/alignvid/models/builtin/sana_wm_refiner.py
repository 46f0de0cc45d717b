"""The refiner of SANA-WM: LTX-2 without sound, over a few frames at a time.

Self-attention also sees the first frame and the frames refined before. Their keys are kept from forwards that belong to
no step, and no gain acts in those: `video` are the keys of the frames at hand. Guidance is distilled.
"""

from __future__ import annotations

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import attended_text


def is_preparation(arguments: Arguments) -> bool:
    """Whether keys are computed that later forwards keep."""
    return arguments.get("kv_cache_mode") in ("capture_pre_rope", "inject_and_capture_post_rope")


WORDS_REFUSAL = "connectors make other tokens of the text encoder's before the transformer is given them."


FAMILY = Family(
    name="sana_wm_refiner",
    transformers=("SanaWMLTX2RefinerTransformer3DModel",),
    pipelines=("SanaWMLTX2Refiner",),
    stacks=(
        Stack(
            "transformer_blocks",
            (
                Site("self", "attn1", (KeyNorm("norm_k", ("video",)),), ignores_mask=True),
                Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),), ignores_mask=True),
            ),
        ),
    ),
    reads=Reads(words_refusal=WORDS_REFUSAL, attended=attended_text),
    time=Time(is_preparation=is_preparation),
)
