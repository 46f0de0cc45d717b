"""Compare variants on the same scenes and noise.

    python -m alignvid.miniature.training.compare --variant ... --records FILE

A variant is "baseline", "preset" (what attach finds for the miniature), or settings such as
"gamma=2.5 steps=0-0.5 blocks=first-half guidance=3 sampling=8"; the gain then acts on the text keys of cross-attention
in that part of the sampling steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from alignvid.attachment.attach import preset_for
from alignvid.blocks import BlockSet
from alignvid.errors import InputError
from alignvid.miniature import load_pipeline
from alignvid.miniature.evaluate import DEFAULT_STEPS, Outcome, Variant, evaluate, trials
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT
from alignvid.miniature.training.statistics import bootstrap_mean
from alignvid.miniature.wordings import FORM_SETS, FormSet
from alignvid.modulation import Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

SCENES = {"development": DEVELOPMENT, "held-out": HELD_OUT}
STREAM = "cross.text"
CLAIMS: dict[str, Callable[[Outcome], bool]] = {
    "edit shown": lambda outcome: outcome.edit_shown,
    "rest untouched": lambda outcome: outcome.rest_untouched,
    "both": lambda outcome: outcome.edit_shown and outcome.rest_untouched,
}
SETTINGS = ("blocks", "gamma", "guidance", "sampling", "steps")


@click.command(
    epilog='Example: python -m alignvid.miniature.training.compare --variant baseline --variant "gamma=2.5 steps=0-1"'
)
@click.option("--variant", "variants", multiple=True, required=True, help="One column; the first is compared with.")
@click.option("--scenes", type=click.Choice(list(SCENES)), default="development", show_default=True)
@click.option("--count", type=click.IntRange(1), default=150, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Noise seeds per scene.")
@click.option("--records", type=click.Path(path_type=Path), required=True, help="JSON Lines; continued if it exists.")
@click.option("--forms", type=click.Choice(FORM_SETS), default="trained", show_default=True, help="Ways to ask.")
@click.option("--weights", type=click.Path(path_type=Path), help="Another pipeline folder than the shipped one.")
@click.option("--lora", type=click.Path(path_type=Path), help="Folder of the four-step LoRA; say sampling=4 then.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(
    variants: tuple[str, ...],
    scenes: str,
    count: int,
    seeds: int,
    records: Path,
    forms: FormSet,
    weights: Path | None,
    lora: Path | None,
    threads: int,
) -> None:
    """Print the follow rate and the untouched rate of each variant, and its difference from the first."""
    torch.set_num_threads(threads)
    pipeline, cases = load_pipeline(weights, lora=lora), trials(SCENES[scenes], count, forms)
    columns = [parse_variant(text, pipeline) for text in variants]
    first: list[list[Outcome]] | None = None
    for variant in columns:
        outcomes = [evaluate(pipeline, cases, variant, noise_seed=seed, records=records) for seed in range(seeds)]
        first = first or outcomes
        click.echo(f"{variant.name}\n" + "\n".join(_lines(outcomes, first)))


def parse_variant(text: str, pipeline: object) -> Variant:
    """Read a variant's settings.

    Raises: InputError for a setting that does not exist.
    """
    if text == "baseline":
        return Variant(text, None)
    if text == "preset":
        return Variant(text, preset_for(pipeline).recipe)
    pairs = (part.partition("=") for part in text.split())
    settings = {name: value for name, _, value in pairs}
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise InputError(f"A variant has no setting {unknown[0]!r}; choose from {', '.join(SETTINGS)}.")
    recipe = None
    if "gamma" in settings:
        start, _, stop = settings.get("steps", "0-1").partition("-")
        recipe = Recipe(
            modulation=Scalar(float(settings["gamma"]), {STREAM: 1.0}),
            blocks=BlockSet.of(settings.get("blocks", "all")),
            steps=StepWindow.fraction(float(start), float(stop)),
        )
    steps, guidance = int(settings.get("sampling", DEFAULT_STEPS)), float(settings.get("guidance", 1.0))
    return Variant(text, recipe, steps, guidance)


def _lines(outcomes: list[list[Outcome]], first: list[list[Outcome]]) -> list[str]:
    lines = []
    for claim in CLAIMS:
        mine, theirs = _table(outcomes, claim), _table(first, claim)
        rate, gain = bootstrap_mean(mine, seed=0), bootstrap_mean(mine - theirs, seed=0)
        lines.append(f"  {claim:15} {rate}; minus the first: {gain}")
    kinds = sorted({outcome.edit_kind for outcome in outcomes[0]})
    shares = [np.mean([o.edit_shown for row in outcomes for o in row if o.edit_kind == kind]) for kind in kinds]
    return [*lines, "  " + ", ".join(f"{kind} {share:.0%}" for kind, share in zip(kinds, shares, strict=True))]


def _table(outcomes: list[list[Outcome]], claim: str) -> NDArray[np.float64]:
    """One row per scene, one column per noise seed."""
    return np.array([[CLAIMS[claim](outcome) for outcome in row] for row in outcomes], float).T


if __name__ == "__main__":
    main()
