"""`make figures`: observe the miniature, and write all numbers and pictures of docs/attention.md.

Held-out scenes, each run with the same noise as it is, with a blurred reference, with AlignVid's preset, and at two
more gains. Writes docs/attention.json, docs/images/attention-*, and the tables of the page (attention_text.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import attention_text as text
from alignvid.analysis.observe import observe
from alignvid.analysis.trace import Trace
from alignvid.attachment.attach import attach, preset_for
from alignvid.files import write_bytes
from alignvid.media.blur import blurred_image
from alignvid.media.images import png_bytes
from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, first_frame
from alignvid.miniature.evaluate import DEFAULT_STEPS, Trial, trials
from alignvid.miniature.scenes import HELD_OUT
from alignvid.miniature.strict import judge_scene
from alignvid.plots import change, heat_maps, lines, mean_map, overlaid, save_figure, sweep_curve
from alignvid.plots.intervals import bootstrap_interval
from alignvid.recipe import Recipe

IMAGES = Path(__file__).parent / "images"
SCENES = 30
BLUR_SIGMA = 2.0
"""Pixels, of a picture 80 pixels wide: shapes lose their corners and keep their places."""
GAMMAS = (1.35, 2.5)
"""Beside 1, the baseline, and the preset's own."""


class Variant(NamedTuple):
    """What is done in a run."""

    blur_sigma: float
    recipe: Recipe | None


class Sample(NamedTuple):
    """One observed run of one scene."""

    trace: Trace
    frames: np.ndarray
    numbers: list[float]
    """In the order of `attention_text.MEASURES`."""


def main() -> None:
    torch.set_num_threads(1)  # sums in the same order everywhere
    pipeline, cases = load_pipeline(), trials(HELD_OUT, SCENES)
    variants = variants_of(preset_for(pipeline).recipe)
    samples = {
        name: [observed(pipeline, case, variant) for case in tqdm(cases, desc=name, mininterval=10)]
        for name, variant in variants.items()
    }
    data = data_of(samples, preset_for(pipeline))
    draw(samples, data, cases[0])
    write_bytes(text.DATA, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    text.PAGE.write_text(
        text.with_written_part(text.PAGE.read_text("utf-8"), text.written_part(data, shipped=text.shipped_sha256())),
        "utf-8",
    )


def variants_of(preset: Recipe) -> dict[str, Variant]:
    """Baseline, blur and preset, and the preset at other gains, by name; those of the sweep are called by their γ."""
    made = {
        text.BASELINE: Variant(0.0, None),
        text.BLURRED: Variant(BLUR_SIGMA, None),
        text.ALIGNVID: Variant(0.0, preset),
    }
    return made | {f"{gamma:g}": Variant(0.0, preset.override(gamma=gamma)) for gamma in GAMMAS}


def observed(pipeline: Any, case: Trial, variant: Variant) -> Sample:
    picture = blurred_image(Image.fromarray(first_frame(case.scene)), variant.blur_sigma)
    tokens = list(range(len(pipeline.tokenizer(case.prompt).input_ids)))
    with nullcontext() if variant.recipe is None else attach(pipeline, variant.recipe):
        with torch.no_grad(), observe(pipeline, maps={case.prompt: ("text", tokens)}) as trace:
            output = pipeline(
                image=picture,
                prompt=case.prompt,
                height=HEIGHT,
                width=WIDTH,
                num_frames=FRAMES,
                num_inference_steps=DEFAULT_STEPS,
                guidance_scale=1.0,
                generator=torch.Generator().manual_seed(case.number),
                output_type="np",
            )
    frames = (output.frames[0] * 255).round().astype(np.uint8)
    return Sample(trace, frames, list(numbers_of(trace, case, frames)))


def numbers_of(trace: Trace, case: Trial, frames: np.ndarray) -> Iterator[float]:
    for keys in ("text", "image", "video"):
        yield mean_of(trace, "entropy", keys)
    yield 100 * mean_of(trace, "pooled_mass", "text")
    yield 100 * float(np.mean([item.weights for item in trace.maps]))
    judgement = judge_scene(frames, case.scene, case.request)
    yield 100.0 * judgement.edit_shown
    yield 100.0 * judgement.rest_untouched


def mean_of(trace: Trace, measure: str, keys: str) -> float:
    return float(trace.where(query="video", keys=keys).mean(measure, by=()).values)


def data_of(samples: Mapping[str, Sequence[Sample]], preset: Any) -> dict[str, Any]:
    """All numbers of the page, with what they come from."""
    tables = {name: np.array([sample.numbers for sample in of_name]) for name, of_name in samples.items()}
    gammas = {"1": text.BASELINE, f"{preset.recipe.gamma:g}": text.ALIGNVID, **{f"{g:g}": f"{g:g}" for g in GAMMAS}}
    return {
        "schema_version": 1,
        "scenes": SCENES,
        "steps": DEFAULT_STEPS,
        "blur_sigma": BLUR_SIGMA,
        "width": WIDTH,
        "preset": f"γ {preset.recipe.gamma:g} on {', '.join(preset.recipe.modulation.powers)}, "
        f"blocks {preset.recipe.blocks}, {preset.recipe.steps}",
        "transformer_sha256": text.shipped_sha256(),
        "means": {name: estimates(table) for name, table in tables.items()},
        "differences": {
            name: estimates(tables[name] - tables[text.BASELINE]) for name in (text.BLURRED, text.ALIGNVID)
        },
        "sweep": {gamma: estimates(tables[gammas[gamma]]) for gamma in sorted(gammas, key=float)},
        "by_outcome": by_outcome(tables[text.BASELINE]),
    }


def by_outcome(table: np.ndarray) -> dict[str, dict[str, Any]]:
    """The baseline's clips that show their edit, and those that do not."""
    is_shown = table[:, text.MEASURES.index(text.SHOWN)] > 0
    parts = {text.FOLLOWED: table[is_shown], text.NEGLECTED: table[~is_shown]}
    return {name: {"clips": len(part), **estimates(part)} for name, part in parts.items()}


def estimates(table: np.ndarray) -> dict[str, list[float]]:
    """Mean and interval of each measure; the rows are scenes."""
    low, high = bootstrap_interval(table)
    columns = np.stack([table.mean(0), low, high], 1)
    return {
        name: [float(f"{value:.5g}") for value in column] for name, column in zip(text.MEASURES, columns, strict=True)
    }


def draw(samples: Mapping[str, Sequence[Sample]], data: Mapping[str, Any], case: Trial) -> None:
    story = {name: [s.trace for s in samples[name]] for name in (text.BASELINE, text.BLURRED, text.ALIGNVID)}
    save_figure(lines(story, "entropy", along="block"), IMAGES / "attention-blocks")
    save_figure(lines(story, "entropy", along="step"), IMAGES / "attention-steps")
    save_figure(change(story, "entropy", along="block"), IMAGES / "attention-change")
    save_figure(change(story, "pooled_mass", along="block"), IMAGES / "attention-mass")
    pair = {name: story[name] for name in (text.BASELINE, text.ALIGNVID)}
    save_figure(heat_maps(pair, "entropy"), IMAGES / "attention-map")
    save_figure(sweep(data), IMAGES / "attention-sweep")
    write_bytes(IMAGES / "attention-prompt.png", png_bytes(last_frames(samples, case)))


def sweep(data: Mapping[str, Any]) -> Figure:
    rates: dict[str, dict[float, tuple[float, float, float]]] = {}
    for name in (text.SHOWN, text.UNTOUCHED):
        for gamma, point in data["sweep"].items():
            value, low, high = (share / 100 for share in point[name])
            rates.setdefault(name.split(",")[0], {})[float(gamma)] = value, low, high
    return sweep_curve(rates, what="share of clips", n=data["scenes"])


def last_frames(samples: Mapping[str, Sequence[Sample]], case: Trial) -> Image.Image:
    """The first scene's last frame, without and with AlignVid, and where the attention to its prompt lies."""
    first = [samples[name][0] for name in (text.BASELINE, text.ALIGNVID)]
    maps = [mean_map(sample.trace.maps, case.prompt) for sample in first]
    brightest = max(float(weights.max()) for weights in maps)
    drawn = [
        overlaid(sample.frames, weights, word="the prompt", brightest=brightest)[-1]
        for sample, weights in zip(first, maps, strict=True)
    ]
    plain = [sample.frames[-1].repeat(5, 0).repeat(5, 1) for sample in first]
    padded = [
        np.pad(frame, ((0, drawn[0].shape[0] - frame.shape[0]), (0, 0), (0, 0)), constant_values=255) for frame in plain
    ]
    gap = np.full((drawn[0].shape[0], 12, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([padded[0], gap, drawn[0], gap, padded[1], gap, drawn[1]], 1))


if __name__ == "__main__":
    main()
