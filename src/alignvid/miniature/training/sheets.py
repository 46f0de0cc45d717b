"""Sheets for looking at the judge: python -m alignvid.miniature.training.sheets --variant ... --records FILE --out DIR.

Clips that a comparison judged, made again from the same noise: so many accepted and so many refused ones, in the
order of the scenes, each as its first and its last frame above its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from alignvid.errors import InputError
from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import Video
from alignvid.miniature.evaluate import Trial, made_again, read_outcomes, trials
from alignvid.miniature.training.compare import SCENES, parse_variant

COLUMNS = 5
ENLARGE = 3
TEXT_HEIGHT = 24  # pixels, two lines
LINE = 62  # characters
GAP = 6


@click.command(
    epilog="Example: python -m alignvid.miniature.training.sheets --variant baseline --records FILE --out FOLDER"
)
@click.option("--variant", "text", required=True, help="As in the comparison that wrote the records.")
@click.option("--records", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--scenes", type=click.Choice(list(SCENES)), default="held-out", show_default=True)
@click.option("--count", type=click.IntRange(1), default=366, show_default=True, help="Scenes of that comparison.")
@click.option("--noise-seed", type=int, default=0, show_default=True)
@click.option("--each", type=click.IntRange(1), default=100, show_default=True, help="Clips accepted, and refused.")
@click.option("--weights", type=click.Path(path_type=Path), help="Another pipeline folder than the shipped one.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(
    text: str, records: Path, scenes: str, count: int, noise_seed: int, each: int, weights: Path | None, out: Path
) -> None:
    """Write accepted.png and refused.png: clips whose edit the judge called shown, and not shown."""
    pipeline, cases = load_pipeline(weights), trials(SCENES[scenes], count)
    variant = parse_variant(text, pipeline)
    judged = read_outcomes(records, variant, noise_seed)
    if missing := [case.number for case in cases if case.number not in judged]:
        raise InputError(f"{records} lacks {len(missing)} of {count} scenes of {text!r}; run the comparison first.")
    out.mkdir(parents=True, exist_ok=True)
    for name, is_shown in (("accepted", True), ("refused", False)):
        chosen = [case for case in cases if judged[case.number].edit_shown == is_shown][:each]
        clips = made_again(pipeline, chosen, variant, noise_seed)
        sheet(chosen, clips).save(out / f"{name}.png")
        click.echo(f"{name}: {len(chosen)} clips, scenes {', '.join(str(case.number) for case in chosen)}")


def sheet(cases: Sequence[Trial], clips: Sequence[Video]) -> Image.Image:
    """First and last frame of each clip, enlarged, with number and prompt below."""
    cells = [_cell(f"{case.number}: {case.prompt}", clip) for case, clip in zip(cases, clips, strict=True)]
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (width + GAP), rows * (height + GAP)), "white")
    for index, cell in enumerate(cells):
        page.paste(cell, (index % COLUMNS * (width + GAP), index // COLUMNS * (height + GAP)))
    return page


def _cell(text: str, clip: Video) -> Image.Image:
    frames = Image.fromarray(np.concatenate([clip[0], clip[-1]], axis=1))
    frames = frames.resize((frames.width * ENLARGE, frames.height * ENLARGE), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (frames.width, frames.height + TEXT_HEIGHT), "white")
    cell.paste(frames)
    lines = [text[:LINE], text[LINE : 2 * LINE]]
    ImageDraw.Draw(cell).multiline_text((2, frames.height), "\n".join(lines), fill="black", spacing=0)
    return cell


if __name__ == "__main__":
    main()
