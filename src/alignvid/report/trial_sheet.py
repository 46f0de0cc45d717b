"""The picture sheet of a trial, to post: each scene's picture, and the last frame of every arm beside it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from alignvid.bench.data.samples import Sample
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.variants import STILL
from alignvid.bench.trials.merging import ModelOutcome
from alignvid.bench.trials.registration import Registration
from alignvid.files import read_bytes, write_bytes
from alignvid.media.images import decode_image
from alignvid.media.videos import read_video

SHEET_FILE = "trial-sheet.jpg"
_WIDTH, _PROMPT, _GAP, _LINE = 200, 220, 8, 18  # pixels
_PIXEL_ART_BELOW = 160
_INK, _FAINT, _PAPER = (34, 37, 42), (104, 109, 117), (255, 255, 255)
_QUALITY = 88


def write_sheet(folder: RunFolder, plan: Registration, found: ModelOutcome) -> Path:
    """Write the sheet of a trial's first noise into its folder, and return its path."""
    samples = folder.samples()
    arms = [name for name in plan.arms if name != STILL]
    videos = {(row.sample, row.variant): row for row in folder.videos() if row.seed == plan.seeds[0] and row.file}
    rows = [_row(folder, sample, [videos.get((sample.id, arm)) for arm in arms]) for sample in samples]
    head = [f"AlignVid trial of {found.model}, plan {plan.plan_sha256[:16]}", *_verdicts(found)]
    sheet = _laid_out(head, ["picture", *arms], samples, rows)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=_QUALITY)
    write_bytes(folder.path / SHEET_FILE, buffer.getvalue())
    return folder.path / SHEET_FILE


def _verdicts(found: ModelOutcome) -> list[str]:
    return [f"{arm.arm}{' (primary)' if arm.is_primary else ''}: {arm.verdict} - {arm.why}" for arm in found.arms]


def _row(folder: RunFolder, sample: Sample, videos: Sequence[VideoRecord | None]) -> list[Image.Image | None]:
    place = str(sample.image_path)
    picture = decode_image(read_bytes(folder.path / place), place, max_pixels=1 << 28).pixels
    frames = [None if video is None else read_video(folder.path / str(video.file)).frames[-1] for video in videos]
    return [_thumbnail(picture), *(None if frame is None else _thumbnail(Image.fromarray(frame)) for frame in frames)]


def _thumbnail(picture: Image.Image) -> Image.Image:
    """As wide as a column; pixels of small pictures stay hard."""
    how = Image.Resampling.NEAREST if picture.height < _PIXEL_ART_BELOW else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((_WIDTH, max(round(_WIDTH * picture.height / picture.width), 1)), how)


def _laid_out(
    head: Sequence[str], titles: Sequence[str], samples: Sequence[Sample], rows: Sequence[list[Image.Image | None]]
) -> Image.Image:
    heights = [max(cell.height for cell in row if cell is not None) for row in rows]
    width = _PROMPT + len(titles) * (_WIDTH + _GAP) + _GAP
    wrapped = [line for text in head for line in textwrap.wrap(text, max(width // 8, 20))]
    top = _GAP + _LINE * (len(wrapped) + 2)
    sheet = Image.new("RGB", (width, top + sum(heights) + _GAP * (len(rows) + 1)), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, line in enumerate(wrapped):
        draw.text((_GAP, _GAP + number * _LINE), line, _INK if number == 0 else _FAINT, font)
    for column, title in enumerate(titles):
        draw.text((_left(column), top - _LINE), title, _INK, font)
    y = top + _GAP
    for sample, row, height in zip(samples, rows, heights, strict=True):
        for number, line in enumerate(textwrap.wrap(sample.prompt, 28)[: height // _LINE]):
            draw.text((_GAP, y + number * _LINE), line, _INK, font)
        for column, cell in enumerate(row):
            if cell is None:
                draw.text((_left(column), y), "missing", _FAINT, font)
            else:
                sheet.paste(cell, (_left(column), y))
        y += height + _GAP
    return sheet


def _left(column: int) -> int:
    return _PROMPT + column * (_WIDTH + _GAP)
