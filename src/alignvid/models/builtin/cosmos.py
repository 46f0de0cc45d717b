"""Cosmos 1, 2 and 2.5: text-, image- and video-to-world; and Anima, which makes pictures.

Video-to-world keeps the first latent frames clean; a mask says how many, and is read once per run. They are the stream
`image`. Cosmos 2.5's transfer model has image keys in cross-attention, with queries and a softmax of their own.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time, class_name
from alignvid.models.reading.per_tensor import PerTensor
from alignvid.models.reading.shapes import patch_grid

_FROM_TEXT = ("CosmosTextToWorldPipeline", "Cosmos2TextToImagePipeline")
_ANIMA = "AnimaModularPipeline"
_CROSS = Site(
    "cross",
    "attn2",
    (
        KeyNorm("norm_k", ("text",), sequence_dim=2),
        KeyNorm("k_img_norm", ("image",), sequence_dim=2, is_optional=True),
    ),
)

_clean_frames = PerTensor[int]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether the first frames may be clean."""
    has_none = class_name(pipeline) in _FROM_TEXT or type(pipeline).__name__ == _ANIMA
    video = ("video",) if has_none else ("image", "video")
    return (Stack("transformer_blocks", (Site("self", "attn1", (KeyNorm("norm_k", video, sequence_dim=2),)), _CROSS)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Clean frames, as the mask of conditions says; the rest is video."""
    mask, frame = arguments.get("condition_mask"), patch_grid(transformer, arguments)
    if mask is None:
        return {"image": 0}
    clean = _clean_frames.of(mask, lambda: int(mask[0, 0, :, 0, 0].gt(0).sum()) // transformer.config.patch_size[0])
    return {"image": clean * frame.height * frame.width}


FAMILY = Family(
    name="cosmos",
    transformers=("CosmosTransformer3DModel",),
    pipelines=(
        "CosmosTextToWorldPipeline",
        "CosmosVideoToWorldPipeline",
        "Cosmos2TextToImagePipeline",
        "Cosmos2VideoToWorldPipeline",
        "Cosmos2_5_PredictBasePipeline",
        "Cosmos2_5_TransferPipeline",
        _ANIMA,
    ),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, grids={"self.image": patch_grid, "self.video": patch_grid}),
    time=Time(scale=1.0),
)
