"""Sheets of held-out clips to look at: of two arms, clips that the judge accepted and clips that it refused.

Drawn by a seed from all clips of 366 scenes × 3 noise seeds, made again, and laid out under their prompts: the
reference picture, then the first, the middle and the last frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.evaluate import BATCH, Trial, trials
from alignvid.miniature.scenes import HELD_OUT
from held_out import BASELINE, PRESET, SCENES, Row, make, rows

IMAGES = Path(__file__).parent / "images"
DRAWN = "drawn.json"
EACH, A_SHEET = 100, 20
DRAW_SEED = 20261129
COLUMNS, ENLARGE, TEXT_HEIGHT, GAP = 2, 2, 26, 8
QUALITY = 50
LINE = 104  # characters


class Group(NamedTuple):
    """Clips of one arm that the judge accepted, or refused."""

    arm: str
    is_accepted: bool

    @property
    def name(self) -> str:
        return f"{self.arm}-{'accepted' if self.is_accepted else 'refused'}"


GROUPS = tuple(Group(arm, is_accepted) for arm in (BASELINE, PRESET) for is_accepted in (True, False))


def drawn(folder: Path) -> dict[Group, list[Row]]:
    """The clips of each group, by the scoring judge's verdict on the edit, in the order in which they are drawn."""
    found = rows(folder)
    chosen = {}
    for number, group in enumerate(GROUPS):
        fitting = sorted((row for row in found[group.arm].values() if row.shown == group.is_accepted), key=_key)
        places = np.random.default_rng([DRAW_SEED, number]).permutation(len(fitting))[:EACH]
        chosen[group] = [fitting[place] for place in places]
    return chosen


def _key(row: Row) -> tuple[int, int]:
    return row.key


def write(folder: Path) -> None:
    """Make the drawn clips again, judge them twice, and write the sheets, one of each group in turn, and what is on
    them.
    """
    pipeline, cases, chosen = load_pipeline(), trials(HELD_OUT, SCENES), drawn(folder)
    listed = {
        group.name: [
            {"number": number, "noise_seed": row.noise_seed, "scene": row.scene, "prompt": cases[row.scene].prompt}
            for number, row in enumerate(some)
        ]
        for group, some in chosen.items()
    }
    (folder / DRAWN).write_text(json.dumps(listed, indent=1, ensure_ascii=False), encoding="utf-8")
    for first, group in product(range(0, EACH, A_SHEET), GROUPS):
        some = chosen[group][first : first + A_SHEET]
        clips = _again(folder, pipeline, cases, group.arm, some)
        page = sheet(first, [cases[row.scene] for row in some], [clips[row.key] for row in some])
        page.save(IMAGES / f"eye-{group.name}-{first // A_SHEET + 1}.webp", quality=QUALITY)
        print(group.name, first + len(some), flush=True)


def _again(
    folder: Path, pipeline: Any, cases: Sequence[Trial], arm: str, chosen: Sequence[Row]
) -> dict[tuple[int, int], Video]:
    kept = folder / "clips"
    kept.mkdir(exist_ok=True)
    clips: dict[tuple[int, int], Video] = {}
    for seed in sorted({row.noise_seed for row in chosen}):
        wanted = [row for row in chosen if row.noise_seed == seed]
        missing = [cases[row.scene] for row in wanted if not _file(kept, arm, row).exists()]
        for first in range(0, len(missing), BATCH):
            for key, clip in make(folder, pipeline, arm, missing[first : first + BATCH], seed).items():
                np.save(kept / f"{arm}-{key[0]}-{key[1]}.npy", clip)
        clips |= {row.key: np.load(_file(kept, arm, row)) for row in wanted}
    return clips


def _file(kept: Path, arm: str, row: Row) -> Path:
    return kept / f"{arm}-{row.noise_seed}-{row.scene}.npy"


def sheet(first: int, cases: Sequence[Trial], clips: Sequence[Video]) -> Image.Image:
    """Clips in two columns, numbered from `first` on."""
    cells = [_cell(f"{first + place}. {case.prompt}", case, clips[place]) for place, case in enumerate(cases)]
    width, height = cells[0].size
    page = Image.new("RGB", (COLUMNS * (width + GAP), -(-len(cells) // COLUMNS) * (height + GAP)), "white")
    for place, cell in enumerate(cells):
        page.paste(cell, (place % COLUMNS * (width + GAP), place // COLUMNS * (height + GAP)))
    return page


def _cell(text: str, case: Trial, clip: Video) -> Image.Image:
    pictures = [first_frame(case.scene), clip[0], clip[len(clip) // 2], clip[-1]]
    frames = Image.fromarray(np.concatenate([np.pad(one, ((0, 0), (0, 1), (0, 0))) for one in pictures], axis=1))
    frames = frames.resize((frames.width * ENLARGE, frames.height * ENLARGE), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (frames.width, frames.height + TEXT_HEIGHT), "white")
    cell.paste(frames, (0, TEXT_HEIGHT))
    lines = [text[:LINE], text[LINE : 2 * LINE]]
    ImageDraw.Draw(cell).multiline_text((2, 0), "\n".join(lines), fill="black", spacing=0)
    return cell
