"""What the families of ComfyUI read of one forward: tokens of each stream, grids, channels of a reference picture."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Grid, ReferenceChannels
from alignvid.models.reading.shapes import square_grid

UNSEEN = (
    "This run gives Wan no CLIP vision output, so that there are no keys of a picture to act on: connect "
    "clip_vision_output, or choose other streams."
)


def _patches(latents: Any, patch: Any) -> int:
    """Tokens of latents (…, height, width), or (…, frames, height, width) where the patch has three sides; padded."""
    sides = (patch,) * 2 if isinstance(patch, int) else tuple(patch)
    return math.prod(-(-side // step) for side, step in zip(latents.shape[-len(sides) :], sides, strict=True))


def _grid(latents: Any, patch: Any) -> Grid:
    """One picture, or one latent frame, of latents (…, height, width); padded."""
    height, width = (patch, patch) if isinstance(patch, int) else tuple(patch)[-2:]
    return Grid(0, -(-latents.shape[-2] // height), -(-latents.shape[-1] // width))


def reference_grid(transformer: Any, arguments: Any) -> Grid:
    """Of all reference pictures. Raises: AttachmentError if they have none in common."""
    grids = {_grid(latents, transformer.patch_size) for latents in arguments.get("ref_latents") or ()}
    if len(grids) > 1:
        raise AttachmentError(
            "The reference pictures have different sizes, so that their tokens lie on no common grid to blur over: "
            "scale them to one size, or leave one."
        )
    return grids.pop() if grids else Grid(0, 1, 1)


def picture_grid(transformer: Any, arguments: Any) -> Grid:
    """The generated picture, or one latent frame."""
    return _grid(arguments["x"], transformer.patch_size)


def _references(arguments: Any, patch: Any) -> int:
    return sum(_patches(latents, patch) for latents in arguments.get("ref_latents") or ())


def wan_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """Of self-attention, where a reference lies before the video; what CLIP sees has keys of its own."""
    if getattr(transformer, "ref_conv", None) is None:
        return {}
    reference = arguments.get("reference_latent")
    return {"image": 0 if reference is None else _patches(reference, transformer.patch_size[1:])}


def wan_seen_grid(transformer: Any, arguments: Any) -> Grid:
    """What CLIP sees: of one picture, or of the first and the last frame one behind the other.

    Raises: AttachmentError if it was given none.
    """
    if arguments.get("clip_fea") is None:
        raise AttachmentError(UNSEEN)
    tokens = arguments["clip_fea"].shape[-2]
    are_two = getattr(transformer.img_emb, "emb_pos", None) is not None and tokens % 2 == 0
    return square_grid(tokens // 2 if are_two else tokens)


def wan_channels(transformer: Any) -> ReferenceChannels | None:
    """Image-to-video by channels: noise, a mask of 4, and the latents of the reference as the last channels."""
    channels, noise = transformer.in_dim, transformer.out_dim
    return ReferenceChannels("patch_embedding", channels - noise, channels) if channels == 2 * noise + 4 else None


def flux_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """Text and reference pictures; the rest is the generated one."""
    return {"text": arguments["context"].shape[1], "image": _references(arguments, transformer.patch_size)}


def hunyuan_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """Latents, and those of a reference before them; the rest is text, with what a vision encoder made of a picture."""
    reference = arguments.get("ref_latent")
    tokens = 0 if reference is None else _patches(reference, transformer.patch_size)
    return {"video": _patches(arguments["x"], transformer.patch_size) + tokens}


def next_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """The picture, filled up as Z-Image does; the rest is text."""
    tokens = _patches(arguments["x"], transformer.patch_size)
    multiple = transformer.pad_tokens_multiple
    return {"video": tokens if multiple is None else -(-tokens // multiple) * multiple}


def refuse_references(arguments: Any, streams: Container[str]) -> None:
    """Raises: AttachmentError for Z-Image with reference pictures."""
    if len(arguments.get("ref_latents") or ()):
        raise AttachmentError(
            "Z-Image with reference pictures lays their tokens among those of the text, which is not described: take "
            "the reference latents out, or the AlignVid node."
        )


def hidream_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """A picture to be edited lies beside the generated one, row by row, and counts as video."""
    pictures = [arguments["x"], *([] if arguments.get("image_cond") is None else [arguments["image_cond"]])]
    height = pictures[0].shape[-2]
    width = sum(picture.shape[-1] for picture in pictures)
    patch = transformer.patch_size
    return {"video": -(-height // patch) * -(-width // patch)}


def qwen_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """Text and reference pictures; the rest is the generated one."""
    patch = (1, transformer.patch_size, transformer.patch_size)
    return {"text": arguments["context"].shape[1], "image": _references(arguments, patch)}


def sd3_counts(transformer: Any, arguments: Any) -> dict[str, int]:
    """Both, for SD 3.5 has a second attention to the picture alone."""
    return {"text": arguments["context"].shape[1], "video": _patches(arguments["x"], transformer.patch_size)}
