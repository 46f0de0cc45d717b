"""A sheet per block: reference image, foreground, pseudo-RGB view of the attention, and its high-attention tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont

from alignvid.calibration.choose import BlockRatio
from alignvid.calibration.measure import Block, Measurement
from alignvid.files import writable_folder, write_together
from alignvid.media.images import png_bytes

PICTURED = 6
"""Pairs whose views are kept: a sheet of them fits on a screen."""

_WIDTH = 200  # of a picture on the sheet
_GAP, _LINE = 8, 22
_COLUMNS = ("reference image", "foreground", "attention, pseudo-RGB", "high-attention tokens")
_MARK = np.array([213, 94, 0])  # vermilion of Okabe and Ito's palette, for colour-blind readers
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def view_arrays(
    image: Image.Image, mask: Bool[np.ndarray, "rows columns"], measured: Measurement
) -> dict[str, np.ndarray]:
    """What `sheets` needs of a pair."""
    arrays: dict[str, np.ndarray] = {"image": np.array(image), "mask": mask.astype(np.uint8)}
    for block, view in measured.views.items():
        arrays |= {f"{_name(block)}.rgb": view.rgb, f"{_name(block)}.high": view.high}
    return arrays


def write_sheets(folder: Path, views: Mapping[str, Mapping[str, np.ndarray]], blocks: Sequence[BlockRatio]) -> None:
    """One PNG per block. Raises: OutputError."""
    shown = dict(list(views.items())[:PICTURED])
    sheets = {f"{_name(Block(item.stack, item.block))}.png": png_bytes(sheet(shown, item)) for item in blocks}
    write_together(writable_folder(folder), sheets)


def sheet(views: Mapping[str, Mapping[str, np.ndarray]], item: BlockRatio) -> Image.Image:
    """Pairs below each other, with what the columns are and the block's ratio above."""
    name = _name(Block(item.stack, item.block))
    rows = [_row(arrays, arrays[f"{name}.rgb"], arrays[f"{name}.high"]) for arrays in views.values()]
    width = _GAP + len(_COLUMNS) * (_WIDTH + _GAP)
    made = Image.new("RGB", (width, 2 * _LINE + _GAP + sum(row[0].height + _GAP for row in rows)), _PAPER)
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(size=14)
    chosen = "in the preset" if item.is_chosen else "not in the preset"
    title = f"Block {item.block} of {item.stack}: r = {item.ratio:.2f} [{item.low:.2f}, {item.high:.2f}], {chosen}"
    pen.text((_GAP, 4), title, _INK, font)
    for column, label in enumerate(_COLUMNS):
        pen.text((_GAP + column * (_WIDTH + _GAP), 4 + _LINE), label, _INK, font)
    top = 2 * _LINE + _GAP
    for row in rows:
        for column, picture in enumerate(row):
            made.paste(picture, (_GAP + column * (_WIDTH + _GAP), top))
        top += row[0].height + _GAP
    return made


def _row(arrays: Mapping[str, np.ndarray], rgb: np.ndarray, high: np.ndarray) -> list[Image.Image]:
    image = Image.fromarray(arrays["image"])
    size = (_WIDTH, max(1, round(_WIDTH * image.height / image.width)))
    reference = image.resize(size, Image.Resampling.LANCZOS)
    mask = Image.fromarray(arrays["mask"] * 255).resize(size, Image.Resampling.NEAREST).convert("RGB")
    colours = Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST)
    weight = np.asarray(Image.fromarray(high.astype(np.float32)).resize(size, Image.Resampling.NEAREST))[..., None]
    faded = np.asarray(reference, np.float64) * 0.5 + 127
    marked = Image.fromarray(np.round(faded * (1 - weight) + _MARK * weight).clip(0, 255).astype(np.uint8))
    return [reference, mask, colours, marked]


def _name(block: Block) -> str:
    return f"{block.stack}-{block.block:02}"
