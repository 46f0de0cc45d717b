"""ComfyUI's real classes at a tiny size: what one forward of each is given, and where each stream's keys lie in it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import comfyui_core as core
from comfyui_pack import pack

patch, settings = pack("patch"), pack("settings")
WORDS, CHANNELS, GAMMA = 5, 4, 1.5
Span = tuple[int, int]


class Case(NamedTuple):
    """A class at a tiny size, what one forward is given, and where each target's keys lie at the attention call."""

    path: str
    sizes: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...] | list[tuple[int, ...]] | None]
    spans: Mapping[str, Mapping[int, Span]]
    """By target: by number of keys of a call, the first of these keys and the one after the last."""
    sites: Mapping[str, int]
    """By target: attentions that are acted on in a forward of all blocks."""
    params: str = ""


FLUX = dict(
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    vec_in_dim=8,
    context_in_dim=10,
    hidden_size=24,
    mlp_ratio=2.0,
    num_heads=2,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[4, 4, 4],
    theta=10000,
    patch_size=2,
    qkv_bias=True,
    guidance_embed=False,
    txt_ids_dims=[],
)
HUNYUAN = FLUX | dict(
    patch_size=[1, 2, 2],
    byt5=False,
    meanflow=False,
    meanflow_sum=False,
    use_cond_type_embedding=False,
    vision_in_dim=None,
)
NEXT = dict(
    in_channels=CHANNELS,
    dim=24,
    n_layers=2,
    n_refiner_layers=1,
    n_heads=2,
    multiple_of=8,
    qk_norm=True,
    cap_feat_dim=10,
    axes_dims=[4, 4, 4],
)

COSMOS = dict(
    max_img_h=16,
    max_img_w=16,
    max_frames=8,
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    patch_spatial=2,
    patch_temporal=1,
    concat_padding_mask=False,
    model_channels=24,
    num_blocks=2,
    num_heads=2,
    crossattn_emb_channels=10,
    pos_emb_cls="rope3d",
)


def joint(total: int, **spans: Span) -> dict[str, dict[int, Span]]:
    """Targets whose keys lie together in every attention of so many keys; double and single blocks alike."""
    return {f"{site}.{stream}": {total: span} for stream, span in spans.items() for site in ("double", "single")}


TEXT_FIRST = "torch.cat((txt, img), 1)"
CASES = {
    "flux": Case(
        "flux.model:Flux",
        FLUX,
        {"x": (1, CHANNELS, 6, 8), "context": (1, WORDS, 10), "y": (1, 8), "ref_latents": [(1, CHANNELS, 4, 4)]},
        {"*.text": {21: (0, 5)}, "*.video": {21: (5, 17)}, "*.image": {21: (17, 21)}},
        dict.fromkeys(("*.text", "*.video", "*.image"), 4),
        "FluxParams",
    ),
    "chroma": Case(
        "chroma.model:Chroma",
        FLUX | dict(in_channels=16, out_channels=16, in_dim=64, out_dim=24, hidden_dim=16, n_layers=1, vec_in_dim=None),
        {"x": (1, CHANNELS, 6, 8), "context": (1, WORDS, 10), "guidance": (1,)},
        {"*.text": {17: (0, 5)}, "*.video": {17: (5, 17)}},
        dict.fromkeys(("*.text", "*.video"), 4),
        "ChromaParams",
    ),
    "hunyuan_video": Case(
        "hunyuan_video.model:HunyuanVideo",
        HUNYUAN,
        {"x": (1, CHANNELS, 2, 4, 4), "context": (1, WORDS, 10), "y": (1, 8)},
        {"double.text": {13: (-1, 5)}, "*.text": {13: (-1, 5)}, "*.video": {13: (-2, 8)}},  # by hand: see `order`
        {"double.text": 2, "*.text": 4, "*.video": 4},
        "HunyuanVideoParams",
    ),
    "flux2": Case(
        "flux.model:Flux",
        FLUX
        | dict(
            axes_dim=[2, 2, 4, 4],
            vec_in_dim=None,
            patch_size=1,
            qkv_bias=False,
            txt_ids_dims=[3],
            global_modulation=True,
            mlp_silu_act=True,
            ops_bias=False,
            default_ref_method="index",
            ref_index_scale=10.0,
        ),
        {"x": (1, CHANNELS, 3, 4), "context": (1, WORDS, 10), "ref_latents": [(1, CHANNELS, 2, 2)]},
        {"*.text": {21: (0, 5)}, "*.video": {21: (5, 17)}, "*.image": {21: (17, 21)}},
        dict.fromkeys(("*.text", "*.video", "*.image"), 4),
        "FluxParams",
    ),
    "hunyuan_video15": Case(
        "hunyuan_video.model:HunyuanVideo",
        HUNYUAN
        | dict(depth_single_blocks=0, vec_in_dim=None, byt5=True, use_cond_type_embedding=True, vision_in_dim=12),
        {
            "x": (1, CHANNELS, 2, 4, 4),
            "context": (1, WORDS, 10),
            "txt_byt5": (1, 3, 1472),
            "clip_fea": (1, 4, 12),
        },
        {"double.text": {20: (-1, 12)}, "double.video": {20: (-2, 8)}},
        {"double.text": 2, "double.video": 2},
        "HunyuanVideoParams",
    ),
    "ltx2": Case(
        "lightricks.av_model:LTXAVModel",
        dict(
            in_channels=8,
            audio_in_channels=128,
            cross_attention_dim=24,
            audio_cross_attention_dim=16,
            attention_head_dim=12,
            audio_attention_head_dim=8,
            num_attention_heads=2,
            audio_num_attention_heads=2,
            caption_channels=10,
            num_layers=2,
            connector_attention_head_dim=12,
            connector_num_attention_heads=2,
            connector_num_layers=1,
        ),
        {"x": [(1, 8, 2, 2, 2), (1, 8, 3, 16)], "context": (1, WORDS, 20), "attention_mask": None},
        {"*.text": {5: (0, 5)}, "*.video": {8: (0, 8)}, "*.audio": {3: (0, 3)}},
        dict.fromkeys(("*.text", "*.video", "*.audio"), 4),
    ),
    "ltx_video": Case(
        "lightricks.model:LTXVModel",
        dict(
            in_channels=8,
            cross_attention_dim=24,
            attention_head_dim=12,
            num_attention_heads=2,
            caption_channels=10,
            num_layers=2,
        ),
        {"x": (1, 8, 2, 2, 2), "context": (1, WORDS, 10), "attention_mask": None},
        {"cross.text": {5: (0, 5)}, "self.video": {8: (0, 8)}},
        {"cross.text": 2, "self.video": 2},
    ),
    "qwen_image": Case(
        "qwen_image.model:QwenImageTransformer2DModel",
        dict(
            in_channels=4 * CHANNELS,
            out_channels=CHANNELS,
            num_layers=2,
            attention_head_dim=12,
            num_attention_heads=2,
            joint_attention_dim=10,
            axes_dims_rope=(4, 4, 4),
        ),
        {"x": (1, CHANNELS, 1, 4, 8), "context": (1, WORDS, 10), "ref_latents": [(1, CHANNELS, 1, 4, 4)]},
        {"double.text": {17: (0, 5)}, "double.video": {17: (5, 13)}, "double.image": {17: (13, 17)}},
        dict.fromkeys(("double.text", "double.video", "double.image"), 2),
    ),
    "hidream": Case(
        "hidream.model:HiDreamImageTransformer2DModel",
        dict(
            patch_size=2,
            in_channels=CHANNELS,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=12,
            num_attention_heads=2,
            caption_channels=[10, 10],
            text_emb_dim=8,
            axes_dims_rope=(4, 4, 4),
            llama_layers=[0, 1, 2, 3],
        ),
        {"x": (1, CHANNELS, 4, 4), "y": (1, 8), "context": (1, 3, 10), "encoder_hidden_states_llama3": (1, 4, 5, 10)},
        {"*.video": {17: (0, 4)}, "*.text": {17: (4, 17)}},
        {"*.video": 4, "*.text": 4},
    ),
    "lumina2": Case(
        "lumina.model:NextDiT",
        NEXT,
        {"x": (1, CHANNELS, 4, 8), "context": (1, WORDS, 10), "num_tokens": None},
        {"single.text": {13: (0, 5)}, "single.video": {13: (5, 13)}},
        {"single.text": 2, "single.video": 2},
    ),
    "z_image": Case(
        "lumina.model:NextDiT",
        NEXT | dict(pad_tokens_multiple=4),
        {"x": (1, CHANNELS, 4, 12), "context": (1, WORDS, 10), "num_tokens": None},
        {"single.text": {20: (0, 8)}, "single.video": {20: (8, 20)}},
        {"single.text": 2, "single.video": 2},
    ),
    "cosmos": Case(
        "cosmos.predict2:MiniTrainDIT",
        COSMOS,
        {"x": (1, CHANNELS, 2, 4, 4), "context": (1, WORDS, 10)},
        {"cross.text": {5: (0, 5)}, "self.video": {8: (0, 8)}},
        {"cross.text": 2, "self.video": 2},
    ),
    "anima": Case(
        "anima.model:Anima",
        COSMOS,
        {"x": (1, CHANNELS, 1, 4, 8), "context": (1, WORDS, 10)},
        {"cross.text": {5: (0, 5)}, "self.video": {8: (0, 8)}},
        {"cross.text": 2, "self.video": 2},
    ),
    "kandinsky5": Case(
        "kandinsky5.model:Kandinsky5",
        dict(
            in_visual_dim=CHANNELS,
            out_visual_dim=CHANNELS,
            in_text_dim=10,
            in_text_dim2=8,
            time_dim=16,
            model_dim=24,
            ff_dim=32,
            visual_embed_dim=4 * CHANNELS,
            num_text_blocks=0,
            num_visual_blocks=2,
            axes_dims=(4, 4, 4),
        ),
        {"x": (1, CHANNELS, 2, 4, 4), "context": (1, WORDS, 10), "y": (1, 8)},
        {"cross.text": {5: (0, 5)}, "self.video": {8: (0, 8)}},
        {"cross.text": 2, "self.video": 2},
    ),
    "sd3": Case(
        "modules.diffusionmodules.mmdit:OpenAISignatureMMDITWrapper",
        dict(
            input_size=None,
            in_channels=CHANNELS,
            depth=2,
            adm_in_channels=8,
            context_embedder_config={
                "target": "torch.nn.Linear",
                "params": {"in_features": 10, "out_features": 128},
            },
            num_patches=64,
            pos_embed_max_size=8,
            pos_embed_scaling_factor=None,
            qk_norm="rms",
        ),
        {"x": (1, CHANNELS, 4, 4), "context": (1, WORDS, 10), "y": (1, 8)},
        {"double.text": {9: (0, 5)}, "double.video": {9: (5, 9)}},
        {"double.text": 2, "double.video": 2},
    ),
}


LATER = {
    "flux2": {"global_modulation", "mlp_silu_act"},
    "hunyuan_video15": {"byt5", "vision_in_dim", "use_cond_type_embedding"},
}
"""Parameters without which a class is that of an earlier model."""


class CONST:
    """ComfyUI marks a flow by a class of this name."""

    sigma_max = 1.0


class Holder(nn.Module):
    """What holds the transformer, as BaseModel does."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = transformer
        self.model_sampling = CONST()


def kind_of(case: Case) -> Any:
    module, _, name = case.path.partition(":")
    try:
        return getattr(import_module(f"comfy.ldm.{module}"), name)
    except ImportError:
        pytest.skip(f"this ComfyUI has no {name}")


def name_of(case: Case) -> str:
    return next(name for name, other in CASES.items() if other is case)


def built(case: Case) -> Any:
    kind, sizes = kind_of(case), dict(case.sizes)
    if case.path.startswith("anima"):  # the adapter of its text encoder, of fixed sizes, is not run here
        sys.modules[kind.__module__].LLMAdapter = lambda **_: nn.Identity()
    if case.params:
        known = {field.name for field in dataclasses.fields(getattr(import_module(kind.__module__), case.params))}
        if not LATER.get(name_of(case), set()) <= known:
            pytest.skip("this ComfyUI's class is of an earlier model")
        sizes = {name: value for name, value in sizes.items() if name in known}
    transformer = kind(**sizes, dtype=torch.float32, device="cpu", operations=core.comfy.ops.disable_weight_init)
    core.randomised(transformer)
    if isinstance(getattr(transformer, "pos_embed", None), Tensor):  # SD3's, which a checkpoint fills
        transformer.pos_embed.copy_(core.drawn(*transformer.pos_embed.shape, seed=3))
    return core.patcher_of(Holder(transformer))


def given(case: Case) -> dict[str, Any]:
    def tensor(shape: Any, seed: int) -> Any:
        if isinstance(shape, list):
            return [tensor(one, seed + 50) for one in shape]
        return None if shape is None else core.drawn(*shape, seed=seed)

    inputs = {name: tensor(shape, seed) for seed, (name, shape) in enumerate(case.inputs.items())}
    if "num_tokens" in inputs:
        inputs["num_tokens"] = WORDS
    return inputs


def run(
    model: Any, case: Case, options: Mapping[str, Any] | None = None, *, step: int = 0, key: str = patch.KEY
) -> Tensor:
    """One forward at a step of four, through the wrapper of a MODEL of that key as BaseModel.apply_model runs it."""
    sigmas = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    inputs, now = given(case), sigmas[step : step + 1]
    options = {"sample_sigmas": sigmas, "sigmas": now, "cond_or_uncond": [0], **(options or {})}

    class Applying:
        class_obj = model.model

        def __call__(self, x: Any, t: Any, c_concat: Any, context: Any, control: Any, options: Any, **more: Any) -> Any:
            output = self.class_obj.diffusion_model(x, t, context=context, transformer_options=options, **more)
            return output if isinstance(output, Tensor) else torch.cat([part.flatten() for part in output])

    x, context = inputs.pop("x"), inputs.pop("context")
    call = Applying()
    with torch.inference_mode():
        for wrapper in model.get_wrappers("apply_model", key):
            return wrapper(call, x, now, None, context, None, options, **inputs)
        return call(x, now, None, context, None, options, **inputs)


def scaling(spans: Mapping[int, Span], gain: float) -> Callable[..., Any]:
    """An override of the attention that scales some keys."""

    def override(attention: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **more: Any) -> Any:
        dim = 2 if more.get("skip_reshape") else 1
        if k.shape[dim] in spans:
            start, stop = spans[k.shape[dim]]
            k = k.clone()
            k.narrow(dim, start, stop - start).mul_(gain)
        return attention(q, k, v, *rest, **more)

    return override


def placed(case: Case, spans: Mapping[int, Span]) -> Mapping[int, Span]:
    """HunyuanVideo's order in single blocks: -1 is where the text begins, -2 where the video does; it has changed."""
    if case.path.startswith("hunyuan"):
        import inspect

        is_text_first = TEXT_FIRST in inspect.getsource(kind_of(case).forward_orig)
        first = -1 if is_text_first else -2
        return {count: (0, size) if start == first else (count - size, count) for count, (start, size) in spans.items()}
    return spans


def aligned(model: Any, *, measure: bool = False, recipe: Any = None, **widgets: Any) -> Any:
    """A clone of a MODEL with a gain everywhere, if not said otherwise; or with a recipe."""
    chosen = {"strength": "gamma", "gamma": GAMMA, "blocks": "all", "steps": "all", **widgets}
    attached = settings.attached
    return patch.patched(
        model,
        lambda lent: attached(lent, "generic:generic", recipe, proof=measure, **(widgets if recipe else chosen)),
        measures=measure,
    )[0]
