"""Train the miniature from nothing.

    python -m alignvid.miniature.training.train [--stage STAGE] [--out FOLDER] [--seed N]

Stages, in order: vae, text, image, latents, decoder, clean, wordy, fluent, doubtful, negligent, export. Each continues
from its checkpoint in the output folder, so the same command goes on after an interruption. About an hour and a half on
one core, all told.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from diffusers import AutoencoderKLWan
from transformers import CLIPVisionModel, UMT5EncoderModel

from alignvid.miniature.architecture import build_transformer
from alignvid.miniature.training.export import export
from alignvid.miniature.training.latents import SHARD_SCENES, encode_shard, load_shards
from alignvid.miniature.training.loop import load_checkpoint
from alignvid.miniature.training.progress import follow_rates, progress_scenes
from alignvid.miniature.training.train_towers import train_image_encoder, train_text_encoder
from alignvid.miniature.training.train_transformer import DIETS, Diet, TextToVideo, train_stage
from alignvid.miniature.training.train_vae import train_decoder, train_vae

RATES_EVERY_STEPS = 200
DIET_NAMES = [diet.plan.name for diet in DIETS]
STAGES = ["vae", "text", "image", "latents", "decoder", *DIET_NAMES, "export"]


@click.command(epilog="Example: python -m alignvid.miniature.training.train --out training --stage clean")
@click.option("--stage", type=click.Choice(["all", *STAGES]), default="all", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("training"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--scenes", type=click.IntRange(SHARD_SCENES), default=12_000, show_default=True, help="Training scenes.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(stage: str, out: Path, seed: int, scenes: int, threads: int) -> None:
    """Train the miniature, stage by stage; the pipeline is written to OUT/pipeline."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for name in STAGES if stage == "all" else [stage]:
        _run(name, out, seed, scenes)


def _run(stage: str, out: Path, seed: int, scenes: int) -> None:
    match stage:
        case "vae":
            train_vae(out, seed).save_pretrained(out / stage)
        case "text":
            train_text_encoder(out, seed).save_pretrained(out / stage)
        case "image":
            train_image_encoder(out, seed).save_pretrained(out / stage)
        case "latents":
            for shard in range(scenes // SHARD_SCENES):
                encode_shard(out, shard, _vae(out))
        case "decoder":
            train_decoder(_vae(out), out, seed).save_pretrained(out / stage)
        case "export":
            export(_model_after(DIETS[-1], out, seed), _vae(out, "decoder"), _image_encoder(out), out / "pipeline")
        case _:
            _run_diet(DIET_NAMES.index(stage), out, seed)


def _run_diet(index: int, out: Path, seed: int) -> None:
    """Train one diet, from where the diet before it ended."""
    diet, image_encoder = DIETS[index], _image_encoder(out)
    model = _model_after(DIETS[index - 1], out, seed) if index else _fresh_model(out, seed)
    progress = progress_scenes(_vae(out), image_encoder, clean=diet.long == 0)
    train_stage(
        diet,
        model,
        load_shards(out, image_encoder),
        folder=out,
        seed=seed,
        rates=lambda processor: follow_rates(model, processor, progress, diet.caption_tokens),
        rates_every=RATES_EVERY_STEPS,
    )


def _fresh_model(out: Path, seed: int) -> TextToVideo:
    torch.manual_seed(seed)
    return TextToVideo(UMT5EncoderModel.from_pretrained(out / "text"), build_transformer())


def _model_after(diet: Diet, out: Path, seed: int) -> TextToVideo:
    model = _fresh_model(out, seed)
    load_checkpoint(out / f"{diet.plan.name}.safetensors", model)
    return model


def _vae(out: Path, stage: str = "vae") -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(out / stage).eval()


def _image_encoder(out: Path) -> CLIPVisionModel:
    return CLIPVisionModel.from_pretrained(out / "image").eval()


if __name__ == "__main__":
    main()
