"""OmniGen2 of its own repository: text-to-image and editing by one stack of blocks, keys as [text | image | video].

`image` are the reference pictures, `video` is the generated one; heads of keys are fewer than those of queries. Blocks
that refine text or pictures alone are left out. Timesteps ascend from 0 at pure noise to 1. A step runs the prompt,
then with image guidance the negative text beside the pictures, then the negative text alone. TeaCache and TaylorSeer
keep what they know by pass. Read in OmniGen2 0f72fa9.
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, Grid, KeyNorm, OwnCache, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import have_one_length

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "image", "video")),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated and of the reference pictures from their latents; the rest is text.

    Raises: AttachmentError if the samples of a batch differ in them: then each stream ends elsewhere in each.
    """
    patch = transformer.config.patch_size
    pictures = {_tokens(picture, patch) for picture in arguments["hidden_states"]}
    references = {sum(_tokens(each, patch) for each in given or ()) for given in _references(arguments)}
    if len(pictures) > 1 or len(references) > 1 or not have_one_length(arguments["text_attention_mask"]):
        raise AttachmentError(
            "Prompts, reference pictures or results of different size in one batch cannot be separated from each other "
            "in OmniGen2; run them one by one."
        )
    return {"video": pictures.pop(), "image": references.pop()}


def _references(arguments: Arguments) -> list[Any]:
    return arguments.get("ref_image_hidden_states") or [None]


def _tokens(picture: Any, patch: int) -> int:
    height, width = picture.shape[-2:]
    return (height // patch) * (width // patch)


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The generated picture."""
    return _grid(arguments["hidden_states"][0], transformer.config.patch_size)


def reference_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The first reference picture; several of different size do not lie on one grid."""
    return _grid(_references(arguments)[0][0], transformer.config.patch_size)


def _grid(picture: Any, patch: int) -> Grid:
    height, width = picture.shape[-2:]
    return Grid(0, height // patch, width // patch)


def kept(transformer: Any, arguments: Arguments) -> dict[str, Any] | None:
    """What the pass that is next keeps, which the loop puts on the transformer; TaylorSeer goes before TeaCache."""
    if getattr(transformer, "enable_taylorseer", False):
        return transformer.cache_dic
    return vars(transformer.teacache_params) if transformer.enable_teacache else None


def forget(kept: dict[str, Any]) -> None:
    """So that the next forward of this pass runs all blocks, and no difference to earlier ones is used after it."""
    if "cache" not in kept:
        kept["accumulated_rel_l1_distance"] = math.inf
        return
    kept["cache_counter"] = kept.get("cal_threshold", kept["fresh_threshold"]) - 1
    for layer in kept["cache"][-1]["layers_stream"].values():
        layer.update({module: {} for module in layer})


FAMILY = Family(
    name="omnigen2",
    transformers=("omnigen2.models.transformers.transformer_omnigen2:OmniGen2Transformer2DModel",),
    stacks=(Stack("layers", (_SINGLE,)),),
    reads=Reads(
        token_counts=token_counts,
        grids={"single.video": picture_grid, "single.image": reference_grid},
        cache=OwnCache(kept, forget),
    ),
    time=Time(text="text_hidden_states", scale=1.0, is_ascending=True),
)
