"""The miniature's graph of stock nodes, in process: a picture and a prompt in, a clip out, with AlignVid or without."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

import comfyui_core as core
from alignvid.miniature.scenes import Scene
from comfyui_pack import pack

STEPS = 10
core.stand_in_for_torchaudio()


@cache
def loaded() -> tuple[Any, Any, Any, Any]:
    """MODEL, CLIP, CLIP_VISION and VAE, as the node gives them."""
    return tuple(pack("nodes").AlignVidMiniature.execute().result)  # type: ignore[return-value]  # four


def picture_of(frame: Any) -> Any:
    """An IMAGE of a frame of 8-bit pixels."""
    return torch.from_numpy(np.asarray(frame).astype(np.float32) / 255.0)[None]


def conditioned(frame: Any, prompt: str, size: int) -> tuple[Any, Any, Any]:
    """Positive, negative and latents, by ComfyUI's own nodes."""
    import nodes
    from comfy_extras.nodes_wan import WanImageToVideo

    _, clip, clip_vision, vae = loaded()
    picture = picture_of(frame)
    positive = nodes.CLIPTextEncode().encode(clip, prompt)[0]
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    seen = nodes.CLIPVisionEncode().encode(clip_vision, picture, "none")[0]
    return WanImageToVideo.execute(
        positive, negative, vae, size, size, 9, 1, start_image=picture, clip_vision_output=seen
    ).result


def clip_of(frame: Any, prompt: str, seed: int, model: Any, *, sampler: str = "uni_pc") -> np.ndarray:
    """Frames of 8-bit pixels (frames, height, width, 3)."""
    import nodes

    positive, negative, latent = conditioned(frame, prompt, np.asarray(frame).shape[0])
    sampled = nodes.common_ksampler(model, seed, STEPS, 1.0, sampler, "simple", positive, negative, latent)[0]
    images = nodes.VAEDecode().decode(loaded()[3], sampled)[0]
    return (images * 255.0).round().byte().numpy()


def aligned(preset: str = "auto", **widgets: Any) -> Any:
    """The MODEL through the AlignVid node."""
    return pack("nodes").AlignVid.execute(loaded()[0], preset, **widgets).result[0]


def first_frame_of(scene: Scene) -> Any:
    """The reference picture of a made scene."""
    from alignvid.miniature.drawing import first_frame

    return first_frame(scene)


__all__ = ["STEPS", "aligned", "clip_of", "conditioned", "core", "first_frame_of", "loaded", "picture_of"]
