"""What each kind of modulation costs an active step: seconds attached / seconds not attached, in pairs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    HunyuanVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)

from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.modulation import (
    Alg,
    ConflictAware,
    Dcag,
    DownUp,
    DyMoS,
    Energy,
    Grag,
    KeyBlur,
    LogBias,
    LowPass,
    Nag,
    Painter,
    RefKV,
)
from overhead import Row, paired_ratios, spread_row

PAIRS = 100
VAE = {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
CROSS = {"cross.text": 1.0, "cross.image": 1.0}
AT_THE_CALL = [
    Scalar(1.35, {"*.image": 1.0}),
    Energy(is_rotated=True, powers={"*.text": 1.0}),
    ConflictAware(),
    Grag(0.8),
    Dcag(0.8, 0.8),
    RefKV(1.2),
    DyMoS(),
]
SINGLE = {"single.*": 1.0, "double.*": 1.0}


def rows() -> list[Row]:
    made = []
    for model, (transformer, run), kinds in (
        ("Wan", wan(), [Scalar(1.35, CROSS), Energy(powers=CROSS), ConflictAware(), KeyBlur(), LowPass()]),
        ("Wan", wan(), [DyMoS(), Painter(), DownUp()]),
        ("Wan", wan_with_text_encoder(), [Nag()]),
        ("Wan, both passes of a guided step", wan_guided(), [Scalar(1.35, CROSS), Alg()]),
        ("HunyuanVideo", hunyuan(), [Scalar(1.35, SINGLE), Energy(powers=SINGLE), LogBias()]),
        ("HunyuanVideo with its reference", hunyuan("token_replace"), AT_THE_CALL),
    ):
        for kind in kinds:
            recipe = Recipe(kind, BlockSet.of("all"), StepWindow.all())
            made.append(spread_row(f"{model}, {kind.kind}", paired_ratios(transformer, run, recipe, PAIRS), "-"))
    return made


def wan() -> tuple[Any, Callable[[], Any]]:
    """6 blocks of width 96; 192 video tokens, 512 text keys and 65 image keys."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_layers=6,
        num_attention_heads=4,
        attention_head_dim=24,
        in_channels=36,
        out_channels=16,
        text_dim=96,
        ffn_dim=384,
        image_dim=32,
        added_kv_proj_dim=96,
        rope_max_seq_len=32,
    ).eval()
    inputs = {
        "hidden_states": torch.randn(1, 36, 3, 16, 16),
        "timestep": torch.tensor([990.0]),
        "encoder_hidden_states": torch.randn(1, 512, 96),
        "encoder_hidden_states_image": torch.randn(1, 65, 32),
    }
    return transformer, lambda: transformer(**inputs, return_dict=False)


def wan_with_text_encoder() -> tuple[Any, Callable[[], Any]]:
    """The same in a pipeline, whose encoder makes the 512 tokens of a negative text; that is done on attaching."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "tiny"))
    from text_encoders import t5

    transformer, run = wan()
    encoder, tokenizer = t5(96)
    parts: dict[str, Any] = {"vae": AutoencoderKLWan(**VAE), "scheduler": UniPCMultistepScheduler()}
    pipe = WanImageToVideoPipeline(tokenizer=tokenizer, text_encoder=encoder, transformer=transformer, **parts)
    return pipe, run


def wan_guided() -> tuple[Any, Callable[[], Any]]:
    """The same in a pipeline that says its guidance, as it runs a step: the prompt's pass, then the negative one's."""
    transformer, run = wan()
    parts: dict[str, Any] = {"vae": AutoencoderKLWan(**VAE), "scheduler": UniPCMultistepScheduler()}
    pipe = WanImageToVideoPipeline(tokenizer=None, text_encoder=None, transformer=transformer, **parts)
    pipe._guidance_scale = 5.0

    def step() -> None:
        for name in ("cond", "uncond"):
            with transformer.cache_context(name):
                run()

    return pipe, step


def hunyuan(reference: str | None = None) -> tuple[Any, Callable[[], Any]]:
    """3 double-stream and 3 single-stream blocks of width 96; 192 video tokens, with a reference 64 of them its frame,
    and 64 text keys, 40 of them valid.
    """
    torch.manual_seed(0)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=4,
        attention_head_dim=24,
        num_layers=3,
        num_single_layers=3,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=False,
        image_condition_type=reference,
        text_embed_dim=32,
        pooled_projection_dim=8,
        rope_axes_dim=(8, 8, 8),
    ).eval()
    inputs = {
        "hidden_states": torch.randn(1, 16, 3, 16, 16),
        "timestep": torch.tensor([990.0]),
        "encoder_hidden_states": torch.randn(1, 64, 32),
        "encoder_attention_mask": (torch.arange(64) < 40).float().unsqueeze(0),
        "pooled_projections": torch.randn(1, 8),
    }
    return transformer, lambda: transformer(**inputs, return_dict=False)
