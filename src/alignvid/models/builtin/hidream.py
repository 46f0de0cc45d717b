"""HiDream-I1: double- and single-stream blocks, keys in the order [video | text].

Text is what the blocks pass on of T5 and Llama, and behind it the Llama layer that each block brings in. A picture that
is not square is padded to the largest one; the padding counts as video and has keys of zero.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, TextRows, Time
from alignvid.models.reading.shapes import patch_grid

_DOUBLE = Site(
    "double",
    "block.attn1",
    (KeyNorm("k_rms_norm", ("video",)), KeyNorm("k_rms_norm_t", ("text",))),
    is_joint=True,
    ignores_mask=True,
    query_norm="q_rms_norm",
)
_SINGLE = Site(
    "single", "block.attn1", (KeyNorm("k_rms_norm", ("video", "text")),), ignores_mask=True, query_norm="q_rms_norm"
)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens, padding included, from the latents; the rest is text."""
    latents = arguments["hidden_states"]
    if latents.ndim == 3:  # patches already
        return {"video": latents.shape[1]}
    grid = patch_grid(transformer, arguments)
    is_square = grid.height == grid.width
    return {"video": grid.height * grid.width if is_square else transformer.max_seq}


def prompts(transformer: Any, arguments: Arguments) -> tuple[TextRows, ...]:
    """T5's reading of the prompt, and two layers of Llama's."""
    llama = arguments["encoder_hidden_states_llama3"]
    return TextRows(arguments["encoder_hidden_states_t5"]), TextRows(llama), TextRows(llama)


FAMILY = Family(
    name="hidream",
    transformers=("HiDreamImageTransformer2DModel",),
    pipelines=("HiDreamImagePipeline",),
    stacks=(Stack("double_stream_blocks", (_DOUBLE,)), Stack("single_stream_blocks", (_SINGLE,))),
    reads=Reads(token_counts=token_counts, prompts=prompts),
    time=Time(text="encoder_hidden_states_t5", argument="timesteps", batch_order=("uncond", "cond")),
)
