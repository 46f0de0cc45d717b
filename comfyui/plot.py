"""A picture of what was overheard: blocks by steps, entropy on the left, the share of the words on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .watch import Heard

_CELL, _GAP, _TITLE = 16, 44, 30  # pixels
_WIDEST = 420  # of a panel, so that many steps have narrow cells
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64)
_BLANK, _INK = (255, 255, 255), (30, 30, 30)


def averages(heard: Sequence[Heard], measure: str) -> dict[str, np.ndarray]:
    """Means as blocks × steps, by "stack, site"; NaN where nothing was heard, no table where the measure is missing."""
    steps = 1 + max(item.step for item in heard)
    found: dict[str, dict[tuple[int, int], list[float]]] = {}
    for item in heard:
        value = getattr(item, measure)
        if value is not None:
            found.setdefault(f"{item.stack}, {item.site}", {}).setdefault((item.block, item.step), []).append(value)
    tables = {}
    for name, cells in found.items():
        table = tables[name] = np.full((1 + max(block for block, _ in cells), steps), np.nan)
        for place, values in cells.items():
            table[place] = sum(values) / len(values)
    return tables


def picture(heard: Sequence[Heard]) -> Tensor:
    """An IMAGE of ComfyUI: (1, height, width, 3), from 0 to 1."""
    from PIL import Image

    rows = []
    entropies, shares = averages(heard, "entropy"), averages(heard, "words")
    for name in entropies:
        panels = [_panel(f"{name}: entropy", entropies[name])]
        if name in shares:
            panels.append(_panel(f"{name}: share on the words", shares[name]))
        rows.append(_beside(panels))
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([_padded(row, width) for row in rows])
    return torch.from_numpy(np.asarray(Image.fromarray(sheet), dtype=np.float32) / 255.0)[None]


def _panel(title: str, table: np.ndarray) -> np.ndarray:
    """One table with its title, its range, and the first and last of its axes."""
    from PIL import Image, ImageDraw

    blocks, steps = table.shape
    wide = max(2, min(_CELL, _WIDEST // steps))
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    cells = np.repeat(np.repeat(_coloured(table, low, high), _CELL, 0), wide, 1)
    size = max(wide * steps, 8 * len(title)) + 2 * _GAP, _CELL * blocks + 2 * _TITLE + 8
    sheet = Image.new("RGB", size, _BLANK)
    sheet.paste(Image.fromarray(cells), (_GAP, _TITLE))
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 2), title, fill=_INK)
    draw.text((_GAP, 15), f"{low:.3f} (dark) to {high:.3f}", fill=_INK)
    draw.text((4, _TITLE), "block 0", fill=_INK)
    if blocks > 1:
        draw.text((4, _TITLE + _CELL * (blocks - 1)), f"{blocks - 1:>7}", fill=_INK)
    draw.text((_GAP, _TITLE + _CELL * blocks + 4), f"steps 0 to {steps - 1}", fill=_INK)
    return np.asarray(sheet)


def _coloured(table: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours from dark to light; white where nothing was heard."""
    share = np.nan_to_num((table - low) / (high - low or 1.0))
    place = share * (len(_COLOURS) - 1)
    channels = [np.interp(place, np.arange(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)]
    colours = np.stack(channels, axis=-1).round().astype(np.uint8)
    colours[np.isnan(table)] = _BLANK
    return colours


def _beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    height = max(panel.shape[0] for panel in panels)
    taller = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in panels]
    return np.concatenate(taller, axis=1)


def _padded(row: np.ndarray, width: int) -> np.ndarray:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
