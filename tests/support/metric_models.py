"""Tiny random models of the very classes that the metrics load, as files and folders; and runs to measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ViTConfig,
    ViTModel,
)

from alignvid.bench.data.samples import Sample
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import RunFolder, RunInfo
from alignvid.files import sha256_of_bytes
from alignvid.media.videos import encode_video

_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 48}


def save_clip(folder: Path, *, activation: str = "quick_gelu", patch: int = 32) -> Path:
    """The image side of CLIP."""
    torch.manual_seed(patch)
    config = CLIPVisionConfig(
        hidden_size=32, image_size=224, patch_size=patch, projection_dim=16, hidden_act=activation, **_LAYERS
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def save_whole_clip(folder: Path) -> Path:
    """CLIP with its text side, as it is published."""
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", **_LAYERS}
    text = {"hidden_size": 32, "vocab_size": 64, "hidden_act": "quick_gelu", **_LAYERS}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).save_pretrained(folder)
    return folder


def build_dino() -> ViTModel:
    torch.manual_seed(1)
    config = ViTConfig(hidden_size=64, image_size=224, patch_size=16, layer_norm_eps=1e-6, **_LAYERS)
    return ViTModel(config, add_pooling_layer=False).eval()


def save_dino(folder: Path) -> Path:
    build_dino().save_pretrained(folder)
    return folder


def original_dino_state(vit: ViTModel) -> dict[str, torch.Tensor]:
    """The names of the original checkpoint, written out by hand."""
    state = vit.state_dict()
    embeddings, layers = "embeddings.", range(vit.config.num_hidden_layers)
    original = {
        "cls_token": state[embeddings + "cls_token"],
        "pos_embed": state[embeddings + "position_embeddings"],
        "patch_embed.proj.weight": state[embeddings + "patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state[embeddings + "patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for layer in layers:
        for kind in ("weight", "bias"):
            ours, theirs = f"layers.{layer}.", f"blocks.{layer}."
            joint = [state[f"{ours}attention.{part}_proj.{kind}"] for part in "qkv"]
            original[f"{theirs}attn.qkv.{kind}"] = torch.cat(joint)
            original[f"{theirs}attn.proj.{kind}"] = state[f"{ours}attention.o_proj.{kind}"]
            original[f"{theirs}norm1.{kind}"] = state[f"{ours}layernorm_before.{kind}"]
            original[f"{theirs}norm2.{kind}"] = state[f"{ours}layernorm_after.{kind}"]
            original[f"{theirs}mlp.fc1.{kind}"] = state[f"{ours}mlp.fc1.{kind}"]
            original[f"{theirs}mlp.fc2.{kind}"] = state[f"{ours}mlp.fc2.{kind}"]
    return original


def save_head(path: Path) -> Path:
    torch.manual_seed(2)
    torch.save(torch.nn.Linear(16, 1).state_dict(), path)
    return path


VOCABULARY = ("the", "cat", "puts", "on", "sunglasses")


def save_tokenizer(folder: Path) -> Path:
    """CLIP's tokenizer over the letters and five words."""
    letters = [*"abcdefghijklmnopqrstuvwxyz&<>", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz&<>")]
    merges = list(dict.fromkeys(merge for word in VOCABULARY for merge in _merges(word)))
    tokens = [*letters, *("".join(merge) for merge in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = "\n".join(" ".join(merge) for merge in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def _merges(word: str) -> list[tuple[str, str]]:
    parts = [*word[:-1], f"{word[-1]}</w>"]
    return [("".join(parts[:index]), parts[index]) for index in range(1, len(parts))]


def viclip_state(vocabulary: int, *, frames: int = 8, width: int = 64, dim: int = 16) -> dict[str, torch.Tensor]:
    """A checkpoint in the naming of ViClip-InternVid-10M-FLT.pth, two blocks deep."""
    torch.manual_seed(3)
    patch, side = 32, 7

    def normal(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape)

    state = {
        "temp": torch.tensor(0.01),
        "vision_encoder.class_embedding": normal(width),
        "vision_encoder.positional_embedding": normal(side * side + 1, width),
        "vision_encoder.temporal_positional_embedding": normal(1, frames, width),
        "vision_encoder.conv1.weight": 0.02 * normal(width, 3, 1, patch, patch),
        "vision_encoder.proj": normal(width, dim),
        "text_encoder.token_embedding.weight": normal(vocabulary, width),
        "text_encoder.positional_embedding": normal(32, width),
        "text_encoder.text_projection": normal(width, dim),
    }
    for norm in ("vision_encoder.ln_pre", "vision_encoder.ln_post", "text_encoder.ln_final"):
        state |= {f"{norm}.weight": 1 + normal(width), f"{norm}.bias": normal(width)}
    for encoder in ("vision_encoder", "text_encoder"):
        for block in range(2):
            state |= _block_state(f"{encoder}.transformer.resblocks.{block}.", width, normal)
    return state


def _block_state(prefix: str, width: int, normal: Any) -> dict[str, torch.Tensor]:
    shapes = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    return {prefix + name: normal(*shape) for name, shape in shapes.items()}


def moving_square(frame_count: int, height: int = 64, width: int = 96, step: int = 3) -> np.ndarray:
    """A textured square that moves to the right over a textured ground."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
    square = rng.integers(120, 255, (height // 2, height // 2, 3), dtype=np.uint8)
    frames = np.stack([ground] * frame_count)
    for index, frame in enumerate(frames):
        left = index * step
        patch = frame[height // 4 : height // 4 + height // 2, left : left + height // 2]
        patch[:] = square[:, : patch.shape[1]]
    return frames


def save_run(folder: Path, clips: dict[str, np.ndarray | None], *, fps: float = 8) -> RunFolder:
    """A run with one video per sample; None stands for a job that failed."""
    run = RunFolder(folder)
    (folder / "images").mkdir(parents=True)
    samples = [_sample(name) for name in clips]
    for sample, frames in zip(samples, clips.values(), strict=True):
        image = np.zeros((64, 96, 3), np.uint8) if frames is None else frames[0]
        Image.fromarray(image).save(folder / sample.image_path)
    info = RunInfo(
        data={"name": "made", "unusable": []},
        model={"name": "none"},
        variants=[{"name": "baseline", "recipe": None, "settings": {}}],
        seeds=[0],
        settings={},
        versions={},
        machine={},
        created="2026-11-24T00:00:00Z",
    )
    run.write_plan(info, samples)
    for name, frames in clips.items():
        run.write_video(*_video(name, frames, fps))
    return run


def _sample(name: str) -> Sample:
    return Sample(
        id=name,
        image_path=f"images/{name}.png",
        prompt="the cat puts on sunglasses",
        main_category="addition",
        sub_category="object",
        domain="animals",
        expected_change="sunglasses",
        resolution=(96, 64),
        questions=(),
    )


def _video(name: str, frames: np.ndarray | None, fps: float) -> tuple[VideoRecord, bytes | None]:
    keys = {"job": f"job-{name}", "sample": name, "variant": "baseline", "seed": 0}
    if frames is None:
        return VideoRecord(**keys, status="failed", error="out of memory"), None
    video = encode_video(frames, fps)
    size = {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": fps}
    return VideoRecord(
        **keys, status="done", file=f"videos/job-{name}.mp4", sha256=sha256_of_bytes(video), **size
    ), video
