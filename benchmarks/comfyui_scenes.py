"""The miniature in a real ComfyUI server on loopback: baseline and AlignVid on the same scenes and noise, judged.

    ALIGNVID_COMFYUI=PATH PYTHONPATH=tests/support .venv-comfyui/bin/python benchmarks/comfyui_scenes.py \
        --held-out --scenes 100 --records FILE

PATH is a checkout of ComfyUI; the environment is that of `make test-comfyui`. What FILE holds is not made again. Each
scene is made by the stock nodes through the API with uni_pc, as a user has it; the first of them (--compared) also with
Euler's steps, and once more in diffusers with the same noise, sigmas and 512 padded tokens, to compare the frames.
Prints rates with their 95 % intervals.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

import alignvid
from alignvid.bench.comfyui.client import ComfyClient
from alignvid.bench.comfyui.clips import clip_of
from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.evaluate import Trial, trials
from alignvid.miniature.judge import Judgement
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT
from alignvid.miniature.strict import judge_scene
from alignvid.miniature.training.statistics import bootstrap_mean
from comfyui_graph import miniature_graph, without_alignvid
from comfyui_server import running

STEPS, SHIFT = 10, 3.0
SAMPLERS, VARIANTS = ("uni_pc", "euler"), ("baseline", "alignvid")
CLAIMS = ("edit_shown", "rest_untouched", "both")


class Row(NamedTuple):
    """What one clip of the server showed."""

    scene: int
    sampler: str
    variant: str
    edit_shown: bool
    rest_untouched: bool
    largest_difference: int | None
    """From the clip of diffusers, in levels of 255; None where none was made."""
    same_verdict: bool | None

    @property
    def both(self) -> bool:
        return self.edit_shown and self.rest_untouched


class GivenSteps(FlowMatchEulerDiscreteScheduler):
    """Euler's steps at the sigmas of ComfyUI's "simple" schedule."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:  # type: ignore[override]
        times = 1.0 - np.arange(num_inference_steps) / num_inference_steps
        super().set_timesteps(sigmas=(SHIFT * times / (1.0 + (SHIFT - 1.0) * times)).tolist(), device=device)


def made_by_server(client: ComfyClient, trial: Trial, sampler: str, variant: str) -> Video:
    """A clip of the stock nodes."""
    file = io.BytesIO()
    Image.fromarray(first_frame(trial.scene)).save(file, format="PNG")
    picture = client.upload(f"scene-{trial.number}.png", file.getvalue())
    graph = miniature_graph(picture, trial.prompt, seed=trial.number, sampler_name=sampler, steps=STEPS)
    return clip_of(client.run(without_alignvid(graph) if variant == "baseline" else graph)["outputs"], client.fetch)


def made_by_diffusers(pipeline: Any, trial: Trial, variant: str) -> Video:
    """The same clip with Euler's steps; ComfyUI's SaveImage cuts levels off where we round."""
    with nullcontext() if variant == "baseline" else alignvid.attach(pipeline):
        frames = pipeline(
            image=Image.fromarray(first_frame(trial.scene)),
            prompt=trial.prompt,
            height=80,
            width=80,
            num_frames=9,
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(trial.number),
            output_type="np",
        ).frames[0]
    return (frames * 255.0).astype(np.uint8)


def said(verdict: Judgement) -> tuple[bool, bool]:
    """What counts of a verdict."""
    return verdict.edit_shown, verdict.rest_untouched


def rows(client: ComfyClient, pipeline: Any, trial: Trial, *, is_compared: bool) -> Iterator[Row]:
    """The rows of one scene."""
    for sampler in SAMPLERS if is_compared else SAMPLERS[:1]:
        for variant in VARIANTS:
            clip = made_by_server(client, trial, sampler, variant)
            verdict = judge_scene(clip, trial.scene, trial.request)
            difference = is_same = None
            if sampler == "euler":
                other = made_by_diffusers(pipeline, trial, variant)
                difference = int(np.abs(clip.astype(int) - other.astype(int)).max())
                theirs = judge_scene(other, trial.scene, trial.request)
                is_same = said(verdict) == said(theirs)
            yield Row(trial.number, sampler, variant, *said(verdict), difference, is_same)


def summary(found: list[Row]) -> str:
    """Rates by sampler and variant, their paired differences, and how near the clips are to those of diffusers."""
    lines = []
    for sampler in SAMPLERS:
        chosen = {v: [row for row in found if (row.sampler, row.variant) == (sampler, v)] for v in VARIANTS}
        for claim in CLAIMS:
            table = {v: np.array([[getattr(row, claim)] for row in part], float) for v, part in chosen.items()}
            gain = bootstrap_mean(table["alignvid"] - table["baseline"], seed=0)
            rates = "; ".join(f"{name} {bootstrap_mean(values, seed=0)}" for name, values in table.items())
            lines.append(f"{sampler:7} {claim:15} {rates}; difference {gain}")
    compared = [row for row in found if row.largest_difference is not None]
    levels = np.array([row.largest_difference for row in compared])
    lines.append(
        f"largest difference from diffusers, {len(compared)} clips: median {np.median(levels):g}, at most "
        f"{levels.max()} of 255; at most 1 in {(levels <= 1).sum()}; "
        f"same verdict in {sum(bool(row.same_verdict) for row in compared)}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--compared", type=int, default=5, help="of them, made in diffusers, too")
    parser.add_argument("--held-out", action="store_true", help="held-out scenes, for a figure that is published")
    parser.add_argument("--records", type=Path, required=True, help="JSON Lines; continued if it exists")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = given.records.read_text().splitlines() if given.records.exists() else []
    found = [Row(**json.loads(line)) for line in lines]
    done = {row.scene for row in found}
    pipeline: Any = load_pipeline()
    pipeline.scheduler = GivenSteps(shift=1.0)
    with tempfile.TemporaryDirectory() as folder, running(Path(os.environ["ALIGNVID_COMFYUI"]), Path(folder)) as server:
        client = ComfyClient(server.url)
        for trial in trials(HELD_OUT if given.held_out else DEVELOPMENT, given.scenes):
            if trial.number not in done:
                made = list(rows(client, pipeline, trial, is_compared=trial.number < given.compared))
                with given.records.open("a") as file:
                    file.writelines(json.dumps(row._asdict()) + "\n" for row in made)
                found += made
    print(summary(found))


if __name__ == "__main__":
    main()
