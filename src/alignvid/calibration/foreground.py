"""Where the foreground of a reference image is: masks of the user's, SAM 2, a scene's exact mask, or GrabCut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from alignvid.calibration.grabcut import grabcut, require_cv2
from alignvid.calibration.pairs import Pair
from alignvid.errors import InputError
from alignvid.files import sha256_of_bytes, user_path
from alignvid.media.images import fit_image, read_image
from alignvid.miniature.drawing import foreground_mask

SOURCES = ("auto", "masks", "sam2", "scenes", "grabcut")
DEFAULT_SAM2 = "facebook/sam2.1-hiera-large"
_WHITE = 128  # a mask's pixels from here on are foreground

Mask = Bool[np.ndarray, "height width"]
MaskOf = Callable[[Pair, Image.Image], Mask]


class Foreground(NamedTuple):
    """A source of foreground masks."""

    source: str
    """One of SOURCES, but not "auto"."""
    detail: str
    """What a reader of the preset should know of it."""
    digests: Mapping[str, str]
    """SHA-256 of the mask by pair, for masks that can change between two runs."""
    note: str | None
    """What the user should know at once."""
    mask_of: MaskOf
    """The mask of a pair's image as the model gets it, which is given."""
    load: Callable[[], object] = lambda: None
    """Gets ready what `mask_of` needs, so that it fails before a large model is loaded, if it fails."""


def choose_foreground(
    wanted: str, masks: str | None, sam2: str | None, pairs: Sequence[Pair], device: str
) -> Foreground:
    """The source that the user wants, or of those that can be used the first one: masks, SAM 2, scenes, GrabCut.

    Args:
        wanted: One of SOURCES.
        masks: Folder of masks, named after the pairs' ids.
        sam2: Folder or Hub id of a SAM 2 model.
        pairs: All pairs; masks are checked against them.
        device: Where SAM 2 runs.

    Raises: InputError if that source cannot be used; MissingExtra.
    """
    has_scenes = all(pair.scene is not None for pair in pairs)
    if wanted == "auto":
        wanted = "masks" if masks else "sam2" if sam2 else "scenes" if has_scenes else "grabcut"
    match wanted:
        case "masks":
            return _from_masks(masks, pairs)
        case "sam2":
            from alignvid.calibration.sam2 import Sam2

            segment = cache(partial(Sam2.load, sam2 or DEFAULT_SAM2, device))  # not at all if every pair is measured
            detail = f"SAM 2 ({sam2 or DEFAULT_SAM2}), asked for what lies in the middle"
            return Foreground("sam2", detail, {}, None, lambda pair, image: segment().mask_of(image), segment)
        case "scenes":
            if not has_scenes:
                raise InputError("Only the miniature's scenes have exact masks; choose masks, sam2 or grabcut.")
            return Foreground("scenes", "the exact masks of the miniature's scenes", {}, None, _exact_mask)
        case _:
            require_cv2()
            note = (
                "The foreground is guessed by GrabCut, a classical method that takes what differs from the picture's "
                f"rim; for the paper's way add --sam2 {DEFAULT_SAM2}, or give your masks with --masks."
            )
            return Foreground("grabcut", "a guess by OpenCV's GrabCut", {}, note, lambda pair, image: grabcut(image))


def digest(pairs: Sequence[Pair], foreground: Foreground) -> str:
    """The SHA-256 of everything that is asked of some pairs: prompts, pixels, seeds, and masks that are given."""
    asked = [[*pair.asks_for, foreground.digests.get(pair.id, "")] for pair in pairs]
    return sha256_of_bytes(json.dumps(asked).encode())


def _exact_mask(pair: Pair, image: Image.Image) -> Mask:
    assert pair.scene is not None, "checked when the source was chosen"
    return _fitted(foreground_mask(pair.scene).astype(np.uint8) * 255, image.size)


def _from_masks(folder: str | None, pairs: Sequence[Pair]) -> Foreground:
    """Every mask is read and checked before a model is loaded."""
    if folder is None:
        raise InputError("Foreground 'masks' needs the folder of them; give it with --masks DIR.")
    if missing := [pair.id for pair in pairs if not _mask_file(folder, pair).is_file()]:
        raise InputError(
            f"{len(missing)} of {len(pairs)} masks are missing in {folder!r}, the first is "
            f"{missing[0]}.png; name each one after its pair's id."
        )
    read = {pair.id: _read_mask(_mask_file(folder, pair), pair) for pair in pairs}
    digests = {id: sha256_of_bytes(values.tobytes()) for id, values in read.items()}
    return Foreground(
        "masks", "masks given by the user", digests, None, lambda pair, image: _fitted(read[pair.id], image.size)
    )


def _mask_file(folder: str, pair: Pair) -> Path:
    return user_path(folder) / f"{pair.id}.png"


def _read_mask(file: Path, pair: Pair) -> UInt8[np.ndarray, "height width"]:
    grey = read_image(file, max_pixels=pair.spec.max_pixels).pixels.convert("L")
    with Image.open(file) as opened:
        if opened.has_transparency_data:
            raise InputError(f"The mask {str(file)!r} is transparent in places; save it in grey, white on black.")
    if grey.size != pair.size:
        raise InputError(
            f"The mask {str(file)!r} has {_pixels(grey.size)} pixels, but its image has {_pixels(pair.size)}; "
            "draw it on the image itself."
        )
    values = np.asarray(grey)
    if values.max() < _WHITE:
        raise InputError(
            f"The mask {str(file)!r} has no foreground: its brightest pixel is {values.max()}; "
            f"paint the foreground white, {_WHITE} to 255."
        )
    return values


def _fitted(values: UInt8[np.ndarray, "rows columns"], size: tuple[int, int]) -> Mask:
    """A mask of the whole image, cropped and scaled as the model's image was."""
    return np.asarray(fit_image(Image.fromarray(values), *size)) >= _WHITE


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
