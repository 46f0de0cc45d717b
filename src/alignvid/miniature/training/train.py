"""Train the miniature: python -m alignvid.miniature.training.train --out FOLDER [--start PIPELINE] [--stage STAGE].

Stages, in order: vae, text, image, latents, clean, wordy, fluent, shaped, doubtful, negligent, obstinate, decoder,
teacher, student, export. To resume a stopped run, repeat the command: each stage continues from its checkpoint in the
output folder.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from diffusers import AutoencoderKLWan
from transformers import CLIPVisionModel, UMT5EncoderModel

from alignvid.miniature.architecture import build_transformer
from alignvid.miniature.distilled import NAME
from alignvid.miniature.training.export import export
from alignvid.miniature.training.latents import EncodedScenes, encode_rivals, encode_shard, load_shards
from alignvid.miniature.training.loop import load_checkpoint, placed, steps_done
from alignvid.miniature.training.progress import SCENES, follow_rates, progress_scenes
from alignvid.miniature.training.start import transformer_from
from alignvid.miniature.training.teacher import load_ways, make_shard
from alignvid.miniature.training.train_student import add_student, export_student, likeness, train_student
from alignvid.miniature.training.train_towers import train_image_encoder, train_text_encoder
from alignvid.miniature.training.train_transformer import DIETS, Diet, TextToVideo, train_stage
from alignvid.miniature.training.train_vae import train_decoder, train_vae

RATES_EVERY_STEPS = 200
WAY_SHARDS = 8
LIKENESS_SCENES = 32
LIKENESS_EVERY_STEPS = 100
DIET_NAMES = [diet.plan.name for diet in DIETS]
STAGES = ["vae", "text", "image", "latents", *DIET_NAMES, "decoder", "teacher", "student", "export"]


@click.command(epilog="Example: python -m alignvid.miniature.training.train --out training --stage clean")
@click.option("--stage", type=click.Choice(["all", *STAGES]), default="all", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("training"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--start", type=click.Path(path_type=Path), help="Pipeline folder to begin with; else from nothing.")
@click.option("--until", type=click.Choice(STAGES), default=STAGES[-1], help="The last stage to run.")
@click.option("--shards", type=click.IntRange(1), default=12, show_default=True, help="Of 100 pictures, 5 scenes each.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Such as cuda; checkpoints fit every device.")
def main(
    stage: str, out: Path, seed: int, start: Path | None, until: str, shards: int, threads: int, device: str
) -> None:
    """Train the miniature, stage by stage; writes OUT/pipeline, and the LoRA over it, OUT/miniature-4-step."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for name in STAGES[: STAGES.index(until) + 1] if stage == "all" else [stage]:
        _run(name, out, seed, start, shards, device)


def _run(stage: str, out: Path, seed: int, start: Path | None, shards: int, device: str) -> None:
    match stage:
        case "vae" | "text" | "image" | "decoder" if (out / stage).is_dir():
            pass  # trained before
        case "vae":
            train_vae(out, seed, start, device)
        case "text":
            train_text_encoder(out, seed, start, device).save_pretrained(out / stage)
        case "image":
            train_image_encoder(out, seed, start, device).save_pretrained(out / stage)
        case "latents":
            for shard in range(shards):
                encode_shard(out, shard, placed(_vae(out), device))
                encode_rivals(out, shard, placed(_vae(out), device))
        case "decoder":
            train_decoder(out, seed, device)
        case "teacher":
            model, scenes = _model_after(DIETS[-1], out, seed, start).to(device), _scenes(out, device)
            for shard in range(WAY_SHARDS):
                make_shard(out, shard, model, scenes, seed)
        case "student":
            _run_student(out, seed, start, device)
        case "export":
            model = _model_after(DIETS[-1], out, seed, start)
            export(model, _vae(out, "decoder"), _image_encoder(out), out / "pipeline")
        case _ if steps_done(out / f"{stage}.safetensors") < DIETS[DIET_NAMES.index(stage)].plan.steps:
            _run_diet(DIET_NAMES.index(stage), out, seed, start, device)


def _run_diet(index: int, out: Path, seed: int, start: Path | None, device: str) -> None:
    """Train one diet, from where the diet before it ended."""
    diet, image_encoder = DIETS[index], placed(_image_encoder(out), device)
    model = _model_after(DIETS[index - 1], out, seed, start) if index else _fresh_model(out, seed, start)
    progress = progress_scenes(placed(_vae(out), device), image_encoder, clean=diet.long == 0, count=SCENES)
    train_stage(
        diet,
        model.to(device),
        load_shards(out, image_encoder),
        folder=out,
        seed=seed,
        rates=lambda processor: follow_rates(model, processor, progress, diet.caption_tokens),
        rates_every=RATES_EVERY_STEPS,
    )


def _run_student(out: Path, seed: int, start: Path | None, device: str) -> None:
    """Train the LoRA for four steps over the last diet's transformer, and write it."""
    model, image_encoder = _model_after(DIETS[-1], out, seed, start), placed(_image_encoder(out), device)
    development = progress_scenes(placed(_vae(out), device), image_encoder, clean=False, count=LIKENESS_SCENES)
    compare = likeness(model.to(device), development)
    torch.manual_seed(seed)
    student = add_student(model).to(device)
    train_student(
        model,
        student,
        load_ways(out),
        load_shards(out, image_encoder),
        folder=out,
        seed=seed,
        rates=compare,
        rates_every=LIKENESS_EVERY_STEPS,
    )
    export_student(model, student, out / NAME)


def _scenes(out: Path, device: str) -> EncodedScenes:
    return load_shards(out, placed(_image_encoder(out), device))


def _fresh_model(out: Path, seed: int, start: Path | None) -> TextToVideo:
    torch.manual_seed(seed)
    transformer = build_transformer() if start is None else transformer_from(start)
    return TextToVideo(UMT5EncoderModel.from_pretrained(out / "text"), transformer)


def _model_after(diet: Diet, out: Path, seed: int, start: Path | None) -> TextToVideo:
    model = _fresh_model(out, seed, start)
    load_checkpoint(out / f"{diet.plan.name}.safetensors", model)
    return model


def _vae(out: Path, stage: str = "vae") -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(out / stage).eval()


def _image_encoder(out: Path) -> CLIPVisionModel:
    return CLIPVisionModel.from_pretrained(out / "image").eval()


if __name__ == "__main__":
    main()
