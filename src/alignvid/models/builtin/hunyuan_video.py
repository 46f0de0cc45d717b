"""HunyuanVideo: text-to-video, and image-to-video with the reference in the channels or in place of the first frame.

Double-stream blocks have one key norm for video and one for text. Single-stream blocks have one norm over [video |
text]; with `token_replace` the first latent frame of the video tokens is the reference image. In both kinds of
image-to-video the text begins with what the language model made of the image, the stream `vision`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, ReferenceChannels, Site, Stack, class_name
from alignvid.models.reading.shapes import patch_grid
from alignvid.models.reading.vision_tokens import leading_vision, reads_pictures, text_behind_vision, watch

_READING_PICTURES = ("HunyuanVideoImageToVideoPipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a HunyuanVideo transformer; its config says whether the first frame is the reference, the pipeline
    whether the language model reads it.
    """
    replaces_first_frame = transformer.config.image_condition_type == "token_replace"
    video = ("image", "video") if replaces_first_frame else ("video",)
    sees = class_name(pipeline) in _READING_PICTURES and reads_pictures(pipeline)
    text = ("vision", "text") if sees else ("text",)
    double = Site("double", "attn", (KeyNorm("norm_k", video), KeyNorm("norm_added_k", text)), is_joint=True)
    single = Site("single", "attn", (KeyNorm("norm_k", (*video, *text)),))
    return Stack("transformer_blocks", (double,)), Stack("single_transformer_blocks", (single,))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int | None]:
    """Video tokens from the latents' shape, split off by frame if the first one is the reference; of the rest, those up
    to the last vision token are no text.
    """
    frames, tokens_per_frame = latent_grid(transformer, arguments)
    vision = leading_vision(arguments["encoder_hidden_states"])
    if transformer.config.image_condition_type == "token_replace":
        return {"image": tokens_per_frame, "video": (frames - 1) * tokens_per_frame, "vision": vision}
    return {"video": frames * tokens_per_frame, "vision": vision}


def latent_grid(transformer: Any, arguments: Arguments) -> tuple[int, int]:
    """Latent frames after patching, and tokens in each."""
    frame = patch_grid(transformer, arguments)
    return arguments["hidden_states"].shape[2] // transformer.config.patch_size_t, frame.height * frame.width


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is padded to one length."""
    mask, vision = arguments["encoder_attention_mask"], leading_vision(arguments["encoder_hidden_states"]) or 0
    return {"vision": mask[:, :vision], "text": mask[:, vision:]}


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
    reads=Reads(
        token_counts=token_counts,
        prompts=text_behind_vision,
        watch=watch,
        attended=attended,
        grids=dict.fromkeys(("double.image", "double.video", "single.image", "single.video"), patch_grid),
        reference_channels=reference_channels,
    ),
)
