"""HunyuanVideo: text-to-video, and image-to-video with the reference in the channels or in place of the first frame.

Double-stream blocks have one key norm for video and one for text. Single-stream blocks have one norm over [video |
text]; with `token_replace` the first latent frame of the video tokens is the reference image. In both kinds of
image-to-video the text stream begins with the vision tokens of the language model that encodes the prompt: they count
as text.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, ReferenceChannels, Site, Stack


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a HunyuanVideo transformer; its config tells whether the first frame is the reference."""
    replaces_first_frame = transformer.config.image_condition_type == "token_replace"
    video = ("image", "video") if replaces_first_frame else ("video",)
    double = Site("double", "attn", (KeyNorm("norm_k", video), KeyNorm("norm_added_k", ("text",))), is_joint=True)
    single = Site("single", "attn", (KeyNorm("norm_k", (*video, "text")),))
    return Stack("transformer_blocks", (double,)), Stack("single_transformer_blocks", (single,))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens from the latents' shape, split off by frame if the first one is the reference; the rest is text."""
    frames, tokens_per_frame = latent_grid(transformer, arguments)
    if transformer.config.image_condition_type == "token_replace":
        return {"image": tokens_per_frame, "video": (frames - 1) * tokens_per_frame}
    return {"video": frames * tokens_per_frame}


def latent_grid(transformer: Any, arguments: Arguments) -> tuple[int, int]:
    """Latent frames after patching, and tokens in each."""
    frame = frame_grid(transformer, arguments)
    return arguments["hidden_states"].shape[2] // transformer.config.patch_size_t, frame.height * frame.width


def frame_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one latent frame."""
    height, width = arguments["hidden_states"].shape[-2:]
    patch = transformer.config.patch_size
    return Grid(0, height // patch, width // patch)


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is padded to one length."""
    return {"text": arguments["encoder_attention_mask"]}


def reference_channels(transformer: Any) -> ReferenceChannels | None:
    """With `latent_concat`: noise, the latents of the reference, and a mask of 1."""
    noise = transformer.config.out_channels
    is_concat = transformer.config.image_condition_type == "latent_concat"
    return ReferenceChannels("x_embedder", noise, 2 * noise) if is_concat else None


FAMILY = Family(
    name="hunyuan_video",
    transformers=("HunyuanVideoTransformer3DModel",),
    pipelines=("HunyuanVideoPipeline", "HunyuanVideoImageToVideoPipeline", "HunyuanSkyreelsImageToVideoPipeline"),
    stacks=stacks,
    token_counts=token_counts,
    attended=attended,
    grids=dict.fromkeys(("double.image", "double.video", "single.image", "single.video"), frame_grid),
    reference_channels=reference_channels,
)
