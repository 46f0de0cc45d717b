"""Cosmos 3: one class for every task, its modular sibling and the distilled one."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    Cosmos3AVAEAudioTokenizer,
    Cosmos3DistilledBlocks,
    Cosmos3DistilledModularPipeline,
    Cosmos3OmniBlocks,
    Cosmos3OmniModularPipeline,
    Cosmos3OmniPipeline,
    Cosmos3OmniTransformer,
)
from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import CosmosActionCondition

from pipelines import WAN_VAE, Built, flow_match_euler, picture, ready, unipc
from tiny_qwen import build_tokenizer

PROMPTS = {"prompt": "a cat puts on sunglasses", "negative_prompt": "a red circle"}
ACTIONS = 8  # one for each frame but the first
SOUND = 4  # channels of its latents


def cosmos3_t2v() -> Built:
    """With sound."""
    sound = Cosmos3AVAEAudioTokenizer(
        sampling_rate=160,
        vocoder_input_dim=SOUND,
        dec_dim=4,
        dec_c_mults=(1, 2),
        dec_strides=(2, 4),
        encoder_enabled=False,
    )
    pipe = _omni(sound_tokenizer=sound.eval(), sound_gen=True, sound_dim=SOUND)
    return pipe, _call(enable_sound=True)


def cosmos3_i2v() -> Built:
    """The reference is the clean first latent frame."""
    return _omni(), _call(image=picture(64, 32))


def cosmos3_v2v() -> Built:
    """Two clean latent frames, and keys of the text that are normed for the generated tokens alone."""
    pipe = _omni(hidden_act="relu2", qk_norm_for_text=False, use_und_k_norm_for_gen=True)
    return pipe, _call(video=[picture(64, 32)] * 5)


def cosmos3_policy() -> Built:
    """Actions of a robot, beside the video; no norm on the keys of the text."""
    pipe = _omni(action_gen=True, action_dim=4, qk_norm_for_text=False)
    action = CosmosActionCondition("policy", ACTIONS, "pusht", resolution_tier=256, image=picture(64, 32))
    return pipe, _call(action=action, height=None, width=None, num_frames=None)


def cosmos3_transfer() -> Built:
    """The modular pipeline, with two control videos and guidance by them."""
    pipe = _modular(Cosmos3OmniModularPipeline(Cosmos3OmniBlocks()), unipc(flow_shift=5.0))
    videos = {name: [picture(64, 32, colour)] * 9 for name, colour in (("edge", (0, 0, 0)), ("depth", (90, 90, 90)))}
    call = _call(control_videos=videos, control_guidance=2.0, use_system_prompt=False)
    return pipe, call | {"output": "latents", "output_type": "pt"}


def cosmos3_distilled() -> Built:
    """Few steps without guidance, from a picture."""
    pipe = _modular(Cosmos3DistilledModularPipeline(Cosmos3DistilledBlocks()), flow_match_euler(shift=1.0))
    pipe.update_components(distilled_sigmas=[1.0, 0.6])
    call = _call(image=picture(64, 32), output="latents")
    del call["negative_prompt"], call["guidance_scale"]
    return pipe, call


BUILDERS = (cosmos3_t2v, cosmos3_i2v, cosmos3_v2v, cosmos3_policy, cosmos3_transfer, cosmos3_distilled)


def _omni(*, sound_tokenizer: Any = None, **config: Any) -> Any:
    parts = _parts(unipc(flow_shift=5.0), **config)
    settings = {"enable_safety_checker": False, "default_use_system_prompt": False}
    return ready(Cosmos3OmniPipeline(**parts, sound_tokenizer=sound_tokenizer, **settings))


def _modular(pipe: Any, scheduler: Any) -> Any:
    pipe.update_components(**_parts(scheduler), default_use_system_prompt=False)
    pipe.disable_safety_checker()
    return ready(pipe)


def _parts(scheduler: Any, **config: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer, vae = build_tokenizer(), AutoencoderKLWan(**WAN_VAE)
    transformer = _transformer(vocab_size=len(tokenizer), **config)
    return {"text_tokenizer": tokenizer, "vae": vae, "transformer": transformer, "scheduler": scheduler}


def _transformer(**config: Any) -> Cosmos3OmniTransformer:
    latents = WAN_VAE["z_dim"]
    return Cosmos3OmniTransformer(
        head_dim=16,
        hidden_size=32,
        intermediate_size=32,
        latent_channel=latents,
        patch_latent_dim=latents * 2 * 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=3,
        rope_axes_dim=[4, 2, 2],
        **config,
    )


def _call(**more: Any) -> dict[str, Any]:
    return {
        **PROMPTS,
        "height": 32,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "add_resolution_template": False,
        "add_duration_template": False,
        "output_type": "latent",
        **more,
    }
