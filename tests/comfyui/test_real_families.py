"""Every family of the pack on ComfyUI's real class: keys that it scales against keys scaled at the attention call.

The reference multiplies slices of the keys that reach the attention, after norm and rotation, by its own knowledge of
the token order; so a norm that is not called, or another order, shows as a difference.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import comfyui_core as core
from alignvid.errors import AlignvidError
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
        dict(
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
        ),
        {"x": (1, CHANNELS, 2, 4, 4), "context": (1, WORDS, 10)},
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


def built(case: Case) -> Any:
    kind, sizes = kind_of(case), dict(case.sizes)
    if case.params:
        known = {field.name for field in dataclasses.fields(getattr(import_module(kind.__module__), case.params))}
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


def run(model: Any, case: Case, options: Mapping[str, Any] | None = None) -> Tensor:
    """One forward at the first step, through the wrappers of a MODEL as BaseModel.apply_model runs them."""
    sigmas = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    inputs = given(case)
    options = {"sample_sigmas": sigmas, "sigmas": sigmas[:1], "cond_or_uncond": [0], **(options or {})}

    class Applying:
        class_obj = model.model

        def __call__(self, x: Any, t: Any, c_concat: Any, context: Any, control: Any, options: Any, **more: Any) -> Any:
            return self.class_obj.diffusion_model(x, t, context=context, transformer_options=options, **more)

    x, context = inputs.pop("x"), inputs.pop("context")
    call = Applying()
    with torch.inference_mode():
        for wrapper in model.get_wrappers("apply_model", patch.KEY):
            return wrapper(call, x, sigmas[:1], None, context, None, options, **inputs)
        return call(x, sigmas[:1], None, context, None, options, **inputs)


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
        begins = {-1: 0 if is_text_first else 8, -2: 5 if is_text_first else 0}
        return {count: (begins[start], begins[start] + size) for count, (start, size) in spans.items()}
    return spans


def aligned(model: Any, *, measure: bool = False, **widgets: Any) -> Any:
    chosen = {"strength": "gamma", "gamma": GAMMA, "blocks": "all", "steps": "all", **widgets}
    attached = settings.attached
    return patch.patched(
        model, lambda lent: attached(lent, "generic:generic", None, proof=measure, **chosen), measures=measure
    )[0]


TARGETS = [(name, target) for name, case in CASES.items() for target in case.spans]


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_scaled_keys_are_those_that_reach_the_attention(name: str, target: str) -> None:
    case = CASES[name]
    model = built(case)
    plain = run(model, case)
    spans = placed(case, case.spans[target])
    if target == "double.text" and name == "hunyuan_video":
        spans = {}  # of the double blocks alone: told from the single ones by nothing here; counted below
    clone = aligned(model, streams=target)
    found = run(clone, case)
    assert found.isfinite().all() and not torch.equal(found, plain)
    if spans:
        expected = run(model, case, {"optimized_attention_override": scaling(spans, GAMMA)})
        torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)
    assert patch.patch_of(clone).run.acted == case.sites[target]
    assert torch.equal(run(model, case), plain)
    assert torch.equal(run(aligned(model, streams=target, gamma=1.0), case), plain)


@pytest.mark.parametrize("name", CASES)
def test_the_generic_preset_fits_and_its_proof_shows_a_change(name: str) -> None:
    case = CASES[name]
    model = built(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone = patch.patched(model, lambda lent: settings.attached(lent, "auto", None, proof=True), measures=True)[0]
    run(clone, case)
    attachment, notes = patch.patch_of(clone).attachment, patch.patch_of(clone).run.notes
    assert attachment.name == "generic:generic" and attachment.proof().has_changed_anything and not notes
    assert all(change < 10.0 for change in attachment.proof().changes)


def test_a_later_override_of_the_attention_is_chained_where_keys_are_reached_there() -> None:
    case, calls = CASES["lumina2"], []

    def other(attention: Any, *args: Any, **more: Any) -> Any:
        calls.append(args[1].shape[2])
        return attention(*args, **more)

    model = built(case)
    expected = run(model, case, {"optimized_attention_override": scaling({13: (0, 5)}, GAMMA)})
    found = run(aligned(model, streams="single.text"), case, {"optimized_attention_override": other})
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)
    assert calls.count(13) == 2


def test_z_image_with_reference_pictures_is_refused() -> None:
    case = CASES["z_image"]
    clone = aligned(built(case), streams="single.text")
    with pytest.raises(AlignvidError, match="reference pictures"):
        run(clone, case._replace(inputs={**case.inputs, "ref_latents": [(1, CHANNELS, 4, 4)]}))


def test_energy_acts_where_queries_pass_a_norm_and_is_refused_where_keys_are_reached() -> None:
    from alignvid import Energy, Recipe, StepWindow

    recipe = Recipe(Energy(2.0, powers={"cross.text": 1.0}), steps=StepWindow.all())
    model = built(CASES["ltx_video"])
    clone = patch.patched(model, lambda lent: settings.attached(lent, "auto", recipe, proof=False))[0]
    assert not torch.equal(run(clone, CASES["ltx_video"]), run(model, CASES["ltx_video"]))
    fused = Recipe(Energy(2.0, powers={"single.text": 1.0}), steps=StepWindow.all())
    with pytest.raises(AlignvidError, match="no key norm"):
        patch.patched(built(CASES["lumina2"]), lambda lent: settings.attached(lent, "auto", fused, proof=False))


def test_an_unknown_transformer_is_refused_by_name() -> None:
    class UNetModel(nn.Module):
        pass

    with pytest.raises(AlignvidError, match="UNetModel is not supported"):
        aligned(SimpleNamespace(model=Holder(UNetModel()), get_wrappers=lambda *_: []))
