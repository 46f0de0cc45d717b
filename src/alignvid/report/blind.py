"""The trial's page: two clips side by side, with nothing in its source that says which arm is which.

Its clips have names of their own, in a folder of their own: a job's name would return in every pair that it is in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from alignvid.bench.data.samples import Sample
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.trials.blind import Pair, draw_pairs, page_digest
from alignvid.bench.trials.criteria import APART, FOLLOWS
from alignvid.bench.trials.registration import Registration
from alignvid.fields import mended
from alignvid.files import read_bytes, writable_folder, write_bytes, write_together
from alignvid.report.page import PAGE_FILE, PIXEL_ART_BELOW, part, relative_url

BLIND = "blind"
"""The page's folder, inside the trial's."""


def write_blind_page(folder: RunFolder, plan: Registration) -> tuple[Path, int]:
    """Write the page with its clips and pictures; its path, and how many pairs are on it."""
    pairs = draw_pairs(plan, folder)
    place = writable_folder(folder.path / BLIND)
    samples = {sample.id: sample for sample in folder.samples()}
    for pair in pairs:
        for side, video in (("left", pair.left), ("right", pair.right)):
            _link(folder.path / str(video.file), place / f"{pair.number}-{side}.mp4")
    pictures = {_picture(samples[pair.scene], number): pair.scene for number, pair in _first_of_scenes(pairs).items()}
    write_together(
        place, {name: read_bytes(folder.path / str(samples[scene].image_path)) for name, scene in pictures.items()}
    )
    shown = {scene: name for name, scene in pictures.items()}
    write_bytes(place / PAGE_FILE, render_blind_page(plan, pairs, samples, shown).encode())
    return place / PAGE_FILE, len(pairs)


def render_blind_page(
    plan: Registration, pairs: Sequence[Pair], samples: Mapping[str, Sample], pictures: Mapping[str, str]
) -> str:
    """The page as HTML. Every text in it is escaped. `pictures`: file of each scene's picture, beside the page."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(part("blind.html.jinja")).render(
        pairs=[_shown(pair, samples[pair.scene], pictures[pair.scene]) for pair in pairs],
        questions=[FOLLOWS, APART],
        page=page_digest(plan, pairs),
        style=part("page.css") + part("blind.css"),
        script=part("blind.js"),
    )
    return mended(page)


def _shown(pair: Pair, sample: Sample, picture: str) -> dict[str, Any]:
    return {
        "number": pair.number,
        "prompt": sample.prompt,
        "picture": relative_url(picture),
        "left": f"{pair.number}-left.mp4",
        "right": f"{pair.number}-right.mp4",
        "isPixelArt": (pair.left.height or PIXEL_ART_BELOW) < PIXEL_ART_BELOW,
    }


def _first_of_scenes(pairs: Sequence[Pair]) -> dict[int, Pair]:
    """A pair of each scene, by a number: the scene's own name may say what is expected."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.scene, pair)
    return dict(enumerate(first.values(), start=1))


def _picture(sample: Sample, number: int) -> str:
    return f"picture-{number:03d}{Path(str(sample.image_path)).suffix}"


def _link(source: Path, target: Path) -> None:
    """A second name for a clip, or a copy where the disk has no links."""
    target.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    write_bytes(target, read_bytes(source))
