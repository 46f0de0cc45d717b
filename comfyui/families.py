"""ComfyUI's transformers as data: where the keys of each are, in which order its tokens lie.

One row of the table per class. What is not here is refused by name; what a row says is tested against keys scaled by
hand on the real class (tests/comfyui/test_real_families.py, test_real_calls.py). Where a class runs its key norm
through a fused kernel, which reads the weight and calls nothing, the keys are reached at the attention call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from alignvid.errors import AttachmentError
from alignvid.models import Family, KeyNorm, Reads, Site, Sizes, Stack, Time

from . import tokens
from .calls import at_call, at_keys


def branches(arguments: Any) -> tuple[str, ...]:
    """Branches in the order in which the batch of a forward holds them; ComfyUI numbers the positive prompt 0."""
    numbers = (arguments.get("transformer_options") or {}).get("cond_or_uncond", ())
    return tuple("uncond" if number == 1 else "cond" for number in numbers)


_TIME = Time(argument="timestep", scale=1.0, text="context", batch_order=branches)


def _site(name: str, path: str, *keys: KeyNorm, query: str = "norm_q", **more: Any) -> Site:
    """An attention of ComfyUI, whose masks are built by its model; the call itself asks an override."""
    return Site(name, path, keys, ignores_mask=True, call=at_call, query_norm=query, **more)


def _row(
    name: str,
    classes: tuple[str, ...],
    stacks: Any,
    counts: Any = None,
    *,
    presets_of: str = "",
    sizes: Callable[[nn.Module], Sizes] = lambda transformer: Sizes(),
    grids: Mapping[str, Any] | None = None,
    channels: Any = None,
    check: Any = None,
) -> Family:
    reads = Reads(token_counts=counts, grids=grids or {}, reference_channels=channels, check=check)
    paths = tuple(f"comfy.ldm.{path}" for path in classes)
    return Family(f"comfyui_{name}", paths, stacks, reads=reads, time=_TIME, sizes=sizes, presets_of=presets_of)


# Wan: two softmaxes in cross-attention, one over the text, one over what CLIP sees in the reference picture


def _wan_cross_keys(attention: Any, context: Tensor, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys of text and picture; ComfyUI lays what CLIP sees before the text.

    Raises: AttachmentError if CLIP has seen nothing, where ComfyUI takes the text for the picture, too.
    """
    if not hasattr(attention, "k_img"):
        return {"text": attention.norm_k(attention.k(context))}
    count = arguments["context_img_len"]
    if count is None:
        raise AttachmentError(tokens.UNSEEN)
    return {
        "image": attention.norm_k_img(attention.k_img(context[:, :count])),
        "text": attention.norm_k(attention.k(context[:, count:])),
    }


def _wan_stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    has_reference = getattr(transformer, "ref_conv", None) is not None
    video = ("image", "video") if has_reference else ("video",)
    sites = (
        _site("self", "self_attn", KeyNorm("norm_k", video)),
        _site(
            "cross",
            "cross_attn",
            KeyNorm("norm_k", ("text",)),
            KeyNorm("norm_k_img", ("image",), is_optional=True),
            keys_in_advance=_wan_cross_keys,
        ),
    )
    return Stack("blocks", sites), Stack("vace_blocks", sites, is_main=False, is_optional=True)


def _wan_sizes(transformer: Any) -> Sizes:
    """CLIP embeds one reference picture, or the first and the last frame."""
    embedding = getattr(transformer, "img_emb", None)
    pictures = 0 if embedding is None else 1 if getattr(embedding, "emb_pos", None) is None else 2
    features = getattr(transformer, "alignvid_image_keys", 1280)  # the miniature has fewer, repeated (miniature.py)
    return Sizes(transformer.num_heads, transformer.dim, (features,) * pictures)


# Flux and what is built like it: double-stream blocks with a norm for each stream, single-stream ones with one for all


def _flux_stacks(*single: str, pictures: tuple[str, ...] = ("video", "image")) -> tuple[Stack, ...]:
    """`single`: streams in the order of the softmax, that of the norm in single-stream blocks."""
    double = _site(
        "double",
        "",
        KeyNorm("img_attn.norm.key_norm", pictures, 2),
        KeyNorm("txt_attn.norm.key_norm", ("text",), 2),
        is_joint=True,
        joint_order=single,
        writes_to_input=True,
        query="img_attn.norm.query_norm",
    )
    norm = KeyNorm("norm.key_norm", single, 2)
    return (
        Stack("double_blocks", (double,)),
        Stack(
            "single_blocks",
            (_site("single", "", norm, query="norm.query_norm", writes_to_input=True),),
            is_optional=True,
        ),
    )


def _heads_of(transformer: Any) -> Sizes:
    return Sizes(getattr(transformer, "num_heads", None), getattr(transformer, "hidden_size", None))


def _hunyuan_stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Up to ComfyUI 0.3 the text lay last in single-stream blocks, later it lies first; as its code says."""
    is_text_first = "torch.cat((txt, img), 1)" in inspect.getsource(type(transformer).forward_orig)
    order = ("text", "video") if is_text_first else ("video", "text")
    return _flux_stacks(*order, pictures=("video",))


# One norm over text and picture, run by a fused kernel in later ComfyUI: reached at the attention call


_AUDIO = {
    "self": ("attn1", "video", ()),
    "cross": ("attn2", "text", ()),
    "audio_self": ("audio_attn1", "audio", ("audio",)),
    "audio_cross": ("audio_attn2", "text", ("audio",)),
    "audio_to_video": ("audio_to_video_attn", "audio", ()),
    "video_to_audio": ("video_to_audio_attn", "video", ("audio",)),
}
"""Attentions of LTX-2 by site, whose keys they have, and which streams ask where these are not the video's."""


def _ltx_sites(*names: str) -> tuple[Site, ...]:
    chosen = {name: _AUDIO[name] for name in names or _AUDIO}
    return tuple(
        _site(name, path, KeyNorm("k_norm", (stream,)), queries=queries, query="q_norm")
        for name, (path, stream, queries) in chosen.items()
    )


_SD3 = _site(
    "double",
    "",
    KeyNorm("context_block.attn.ln_k", ("text",)),
    KeyNorm("x_block.attn.ln_k", ("video",)),
    is_joint=True,
    query="x_block.attn.ln_q",
)

FAMILIES = (
    _row(
        "wan",
        ("wan.model:WanModel", "wan.model_animate:AnimateWanModel"),
        _wan_stacks,
        tokens.wan_counts,
        presets_of="wan",
        sizes=_wan_sizes,
        grids={"cross.image": tokens.wan_seen_grid, "self.video": tokens.picture_grid},
        channels=tokens.wan_channels,
    ),
    _row(
        "flux",
        ("flux.model:Flux", "chroma.model:Chroma"),
        _flux_stacks("text", "video", "image"),
        tokens.flux_counts,
        sizes=_heads_of,
        grids={
            f"{site}.{stream}": grid
            for site in ("double", "single")
            for stream, grid in (("video", tokens.picture_grid), ("image", tokens.reference_grid))
        },
    ),
    _row(
        "hunyuan_video", ("hunyuan_video.model:HunyuanVideo",), _hunyuan_stacks, tokens.hunyuan_counts, sizes=_heads_of
    ),
    _row("ltx_video", ("lightricks.model:LTXVModel",), (Stack("transformer_blocks", _ltx_sites("self", "cross")),)),
    _row("ltx2", ("lightricks.av_model:LTXAVModel",), (Stack("transformer_blocks", _ltx_sites()),)),
    _row(
        "qwen_image",
        ("qwen_image.model:QwenImageTransformer2DModel",),
        (
            Stack(
                "transformer_blocks",
                (
                    _site(
                        "double",
                        "attn",
                        KeyNorm("norm_k", ("video", "image"), 2),
                        KeyNorm("norm_added_k", ("text",), 2),
                        is_joint=True,
                        joint_order=("text", "video", "image"),
                    ),
                ),
            ),
        ),
        tokens.qwen_counts,
        grids={"double.video": tokens.picture_grid, "double.image": tokens.reference_grid},
    ),
    _row(
        "hidream",
        ("hidream.model:HiDreamImageTransformer2DModel",),
        (
            Stack(
                "double_stream_blocks",
                (
                    _site(
                        "double",
                        "block.attn1",
                        KeyNorm("k_rms_norm", ("video",)),
                        KeyNorm("k_rms_norm_t", ("text",)),
                        is_joint=True,
                        query="q_rms_norm",
                    ),
                ),
            ),
            Stack(
                "single_stream_blocks",
                (_site("single", "block.attn1", KeyNorm("k_rms_norm", ("video", "text")), query="q_rms_norm"),),
            ),
        ),
        tokens.hidream_counts,
    ),
    _row(
        "lumina2",
        ("lumina.model:NextDiT",),
        (Stack("layers", (_site("single", "attention", KeyNorm("", ("text", "video"), reach=at_keys)),)),),
        tokens.next_counts,
        check=tokens.refuse_references,
    ),
    _row(
        "cosmos",
        ("cosmos.predict2:MiniTrainDIT",),
        (
            Stack(
                "blocks",
                (
                    _site("self", "self_attn", KeyNorm("", ("video",), reach=at_keys)),
                    _site("cross", "cross_attn", KeyNorm("k_norm", ("text",)), query="q_norm"),
                ),
            ),
        ),
    ),
    _row(
        "kandinsky5",
        ("kandinsky5.model:Kandinsky5",),
        (
            Stack(
                "visual_transformer_blocks",
                (
                    _site("self", "self_attention", KeyNorm("key_norm", ("video",)), query="query_norm"),
                    _site("cross", "cross_attention", KeyNorm("key_norm", ("text",)), query="query_norm"),
                ),
            ),
        ),
    ),
    _row("sd3", ("modules.diffusionmodules.mmdit:MMDiT",), (Stack("joint_blocks", (_SD3,)),), tokens.sd3_counts),
)
"""The table. Classes that inherit from one of these (VACE, Camera, HuMo, Anima …) are described by its row."""
