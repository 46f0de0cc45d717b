"""Wan 2.1 and 2.2: text-to-video, image-to-video (CLIP image keys or channels), first-last-frame, TI2V-5B and VACE.

Cross-attention has separate norms for text and image keys, one shared query, and two separate softmaxes. Everything is
put on the keys. Self-attention sees video tokens only, except in TI2V-5B image-to-video, where the reference image is
the clean first latent frame: a prefix of the sequence.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import Tensor, nn

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, ReferenceChannels, Site, Stack
from alignvid.models.reading.shapes import first_frame_counts, patch_grid, square_grid
from alignvid.models.sizes import Sizes, config_sizes

_TEXT_TOKENS = 512  # hard-coded in diffusers: image tokens are what comes before the last 512 encoder states


def cross_keys(attention: Any, encoder_states: Tensor, arguments: Arguments) -> dict[str, Tensor]:
    """Text and image keys of cross-attention, by its own projections (fused or not) and norms."""
    image, text = encoder_states[:, :-_TEXT_TOKENS], encoder_states[:, -_TEXT_TOKENS:]
    if getattr(attention, "fused_projections", False):
        image, text = (
            project(states).chunk(2, -1)[0]
            for project, states in ((attention.to_added_kv, image), (attention.to_kv, text))
        )
    else:
        image, text = attention.add_k_proj(image), attention.to_k(text)
    return {"image": attention.norm_added_k(image), "text": attention.norm_k(text)}


CROSS = Site(
    "cross",
    "attn2",
    (KeyNorm("norm_k", ("text",)), KeyNorm("norm_added_k", ("image",), is_optional=True)),
    keys_in_advance=cross_keys,
    text_through=("condition_embedder.text_embedder",),
)
SELF = Site("self", "attn1", (KeyNorm("norm_k", ("video",)),))
SELF_WITH_REFERENCE = Site("self", "attn1", (KeyNorm("norm_k", ("image", "video")),))


def stacks(transformer: nn.Module, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a Wan transformer; the pipeline says whether the sequence begins with a reference frame."""
    sites = (SELF_WITH_REFERENCE if _has_reference_prefix(pipeline) else SELF, CROSS)
    return Stack("blocks", sites), Stack("vace_blocks", sites, is_main=False, is_optional=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """One latent frame of reference tokens; the rest is video."""
    return first_frame_counts(transformer, arguments)


def text_length_warning(arguments: Arguments, streams: Container[str]) -> str:
    """A sentence where a prompt beside an image has not the length that the attention expects, so that the key norms
    of text and image do not see these streams.
    """
    text = arguments.get("encoder_hidden_states")
    if text is None or arguments.get("encoder_hidden_states_image") is None or text.shape[1] == _TEXT_TOKENS:
        return ""
    if "text" not in streams and "image" not in streams:
        return ""
    return (
        f"The prompt has {text.shape[1]} tokens beside those of an image, where this attention of diffusers takes it "
        f"to have {_TEXT_TOKENS}: it mixes up words and image, with a gain or without. Call the pipeline with "
        f"max_sequence_length={_TEXT_TOKENS}."
    )


def clip_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one reference image: CLIP's class token, then its patches."""
    return square_grid(arguments["encoder_hidden_states_image"].shape[1])


def reference_channels(transformer: Any) -> ReferenceChannels | None:
    """Image-to-video by channels: noise, a mask of 4, and the latents of the reference as the last channels."""
    channels, noise = transformer.config.in_channels, transformer.config.out_channels
    return ReferenceChannels("patch_embedding", channels - noise, channels) if channels == 2 * noise + 4 else None


def sizes(transformer: Any) -> Sizes:
    """Heads and width; CLIP embeds one reference image, or the first and the last frame."""
    image, pictures = transformer.config.image_dim, 1 if transformer.config.pos_embed_seq_len is None else 2
    return config_sizes(transformer)._replace(image_keys=() if image is None else (image,) * pictures)


def _has_reference_prefix(pipeline: Any) -> bool:
    """TI2V-5B image-to-video: per-token timesteps, the first latent frame clean."""
    config = getattr(pipeline, "config", {})
    return bool(config.get("expand_timesteps", False)) and "image_processor" in getattr(pipeline, "components", {})


FAMILY = Family(
    name="wan",
    transformers=("WanTransformer3DModel", "WanVACETransformer3DModel"),
    pipelines=(
        "WanPipeline",
        "WanImageToVideoPipeline",
        "WanVACEPipeline",
        "WanVideoToVideoPipeline",
        "LucyEditPipeline",
    ),
    stacks=stacks,
    reads=Reads(
        token_counts=token_counts,
        grids={"cross.image": clip_grid, "self.image": patch_grid, "self.video": patch_grid},
        reference_channels=reference_channels,
        warning=text_length_warning,
    ),
    sizes=sizes,
)
