"""Film strips for the docs.

    python -m alignvid.miniature.training.strips --variant baseline --variant preset --out FILE

One row per scene: frames of each variant side by side, from the same noise. Scenes are taken in order, not picked.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click
import numpy as np
from diffusers import WanImageToVideoPipeline
from PIL import Image

from alignvid.attachment.attach import attach
from alignvid.miniature import load_pipeline
from alignvid.miniature.batches import batched
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.evaluate import Trial, Variant, trials
from alignvid.miniature.strict import judge_scene
from alignvid.miniature.training.compare import SCENES, parse_variant

SHOWN_FRAMES = [0, 2, 4, 6, 8]
GAP = 8  # pixels of white between variants
ENLARGE = 2


@click.command(
    epilog="Example: python -m alignvid.miniature.training.strips --variant baseline --out docs/images/strips.png"
)
@click.option("--variant", "variants", multiple=True, required=True, help="As in alignvid.miniature.training.compare.")
@click.option("--scenes", type=click.Choice(list(SCENES)), default="development", show_default=True)
@click.option("--count", type=click.IntRange(1), default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Another pipeline folder than the shipped one.")
def main(variants: tuple[str, ...], scenes: str, count: int, out: Path, weights: Path | None) -> None:
    """Draw the strips, and print each row's prompt with the judge's verdicts."""
    pipeline, cases = load_pipeline(weights), trials(SCENES[scenes], count)
    columns = [_clips(pipeline, cases, parse_variant(text, pipeline)) for text in variants]
    for row, case in enumerate(cases):
        verdicts = [judge_scene(column[row], case.scene, case.request) for column in columns]
        marks = ", ".join(f"shown {v.edit_shown}, rest untouched {v.rest_untouched}" for v in verdicts)
        click.echo(f"{case.prompt}: {marks}")
    strips = Image.fromarray(np.concatenate([_row([column[row] for column in columns]) for row in range(count)]))
    enlarged = strips.quantize(256).resize((strips.width * ENLARGE, strips.height * ENLARGE), Image.Resampling.NEAREST)
    enlarged.save(out, optimize=True)


def _clips(pipeline: WanImageToVideoPipeline, cases: list[Trial], variant: Variant) -> list[Video]:
    with nullcontext() if variant.recipe is None else attach(pipeline, variant.recipe):
        return batched(pipeline).generate(
            [Image.fromarray(first_frame(case.scene)) for case in cases],
            [case.prompt for case in cases],
            [case.number for case in cases],
            steps=variant.steps,
            guidance=variant.guidance,
        )


def _row(videos: list[Video]) -> Video:
    gap = np.full((videos[0].shape[1], GAP, 3), 255, np.uint8)
    parts = [part for video in videos for part in (*video[SHOWN_FRAMES], gap)]
    return np.concatenate(parts[:-1], axis=1)


if __name__ == "__main__":
    main()
