"""Kinds of modulation in a recipe, on ComfyUI's own Wan: they act, or are refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import comfyui_core as core
from alignvid import ConflictAware, Energy, KeyBlur, LowPass, Recipe, Scalar, StepWindow
from alignvid.blocks import BlockSet
from alignvid.errors import AlignvidError
from alignvid.modulation import DownUp, DyMoS, Painter
from alignvid.modulation.registry import kind_named, kind_names
from comfyui_aligned import GAMMA, POWERS, aligned
from comfyui_pack import pack

AS_RECIPE = {"strength": "preset", "blocks": "", "steps": "", "streams": ""}
REFUSED = {
    "log-bias": "alone in its softmax",
    "emphasis": "prompt",
    "grag": "a softmax for each of its key norms",
    "dcag": "a softmax for each of its key norms",
    "ref-kv": "a softmax for each of its key norms",
    "alg": "ALG runs the unconditional forward twice",
    "nag": "It is not described by which modules",
}
"""Why a kind cannot act on Wan; what is not here acts. What acts in joint attention: test_real_calls.py."""
ACTING = {
    "conflict-aware": ConflictAware(3.0),
    "key-blur": KeyBlur(sigma=1.0, targets=["cross.image", "self.video"]),
    "low-pass": LowPass(sigma=1.0),
    "down-up": DownUp(ratio=0.5),
    "painter": Painter(amount=1.5),
    "dymos": DyMoS(penalty=1.2),
}
BLOCKS = (0, 2)
FRAME, FRAMES, SIDE = 4, 3, 4  # tokens of a latent frame, latent frames, and latents on a side


@pytest.fixture(scope="module")
def model() -> Any:
    return core.wan()


def always(sigma: float, number: int) -> bool:
    return True


@pytest.mark.parametrize("name", ["scalar", "energy"])
@pytest.mark.parametrize("target", ["cross.text", "cross.image", "self.video"])
def test_a_kind_that_can_act_does_and_without_a_warning(model: Any, name: str, target: str) -> None:
    modulation = kind_named(name)(powers={target: 1.0})  # type: ignore[call-arg]  # both have powers
    clone = aligned(model, recipe=Recipe(modulation, BlockSet.of("0,2"), StepWindow.all()), **AS_RECIPE)
    assert not torch.equal(core.sampled(clone), core.sampled(model))
    run = pack("patch").patch_of(clone).run
    assert run.acted == 10 * 2 and not run.notes


@pytest.mark.parametrize("name", REFUSED)
def test_a_kind_that_cannot_act_is_refused_with_the_reason(model: Any, name: str) -> None:
    modulation = kind_named(name)({"sunglasses": 1.6}) if name == "emphasis" else kind_named(name)()  # type: ignore[call-arg]
    with pytest.raises(AlignvidError, match=REFUSED[name]) as caught:
        aligned(model, recipe=Recipe(modulation, BlockSet.of("0,2"), StepWindow.all()), **AS_RECIPE)
    assert "\n" not in str(caught.value)


def test_energy_in_cross_attention_is_as_exact(model: Any) -> None:
    """By its formula, from the queries and keys that leave the norms of the block."""
    modulation, means = Energy(2.0, powers={"cross.text": 1.0}), {}
    clone = aligned(model, recipe=Recipe(modulation, BlockSet.of("0,2"), StepWindow.all()), **AS_RECIPE)

    def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
        hooks = []
        for block in (0, 2):
            cross = executor.class_obj.diffusion_model.blocks[block].cross_attn
            hooks.append(cross.norm_q.register_forward_hook(lambda _, __, query: means.update(query=query)))
            hooks.append(cross.norm_k.register_forward_hook(lambda _, __, key: scaled(key)))
        try:
            return executor(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def scaled(key: torch.Tensor) -> torch.Tensor:
        query, keys = (tokens.unflatten(-1, (core.HEADS, -1)).mean(1) for tokens in (means["query"], key))
        energy = (query * keys).sum(-1) / keys.shape[-1] ** 0.5
        gain = modulation.low + (modulation.gamma - modulation.low) * torch.sigmoid(
            (modulation.centre - energy) / modulation.width
        )
        return (key.unflatten(-1, (core.HEADS, -1)) * gain[:, None, :, None]).flatten(-2)

    by_hand = model.clone()
    by_hand.add_wrapper_with_key("apply_model", "by_hand", around)
    torch.testing.assert_close(core.sampled(clone), core.sampled(by_hand), atol=1e-6, rtol=1e-6)


def test_a_recipe_of_two_modulations_multiplies_both(model: Any) -> None:
    second = Recipe(Scalar(2.0, {"cross.text": 1.0}), BlockSet.of("1"), StepWindow.all())
    recipe = Recipe(
        Scalar(GAMMA, {"cross.text": 2.0, "cross.image": 1.0}), BlockSet.of("0,2"), StepWindow.all(), then=(second,)
    )
    inner = core.by_hand(model, {"cross_attn.norm_k": 2.0}, (1,), always)
    around = inner.get_wrappers("apply_model", "by_hand")[0]
    both = core.by_hand(model, POWERS, (0, 2), always)
    both.add_wrapper_with_key("apply_model", "second", around)
    clone = aligned(model, recipe=recipe, **AS_RECIPE)
    torch.testing.assert_close(core.sampled(clone), core.sampled(both), atol=1e-6, rtol=1e-6)


def prompts(seed: int = 3) -> Any:
    """With the latents of a reference picture, which Wan is given as channels."""
    latents = {"concat_latent_image": core.drawn(1, 16, FRAMES, SIDE, SIDE, seed=seed)}
    mask = {"concat_mask": (core.drawn(1, 1, FRAMES, SIDE, SIDE, seed=8) > 0).float()}
    pair = core.conditioning(1), core.conditioning(2)
    return tuple([[text, more | latents | mask] for text, more in one] for one in pair)


def sampled(model: Any, **more: Any) -> Tensor:
    return core.sampled(model, steps=4, shape=(1, 16, FRAMES, SIDE, SIDE), prompts=prompts(), **more)


def blurred(planes: Tensor, sigma: float) -> Tensor:
    """(…, height, width), the edges repeated."""
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / sigma) ** 2)
    taps = taps / taps.sum()
    for axis in (-2, -1):
        size = planes.shape[axis]
        places = (torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)).clamp(0, size - 1)
        weights = torch.zeros(size, size, dtype=torch.float64)
        for row in range(size):
            weights[row].index_add_(0, places[row], taps)
        planes = torch.tensordot(planes.double(), weights, ([axis], [1])).movedim(-1, axis)
    return planes.float()


def blurred_keys(keys: Tensor, before: int, pictures: int) -> Tensor:
    """Tokens of pictures of two by two, each with some before its grid."""
    by_picture = keys.unflatten(1, (pictures, -1))
    grid = by_picture[:, :, before:].unflatten(2, (2, 2)).movedim(-1, 2)
    return torch.cat([by_picture[:, :, :before], blurred(grid, 1.0).movedim(2, -1).flatten(2, 3)], 2).flatten(1, 2)


def on_reference(change: Callable[[Tensor, float], Tensor]) -> Callable[..., Any]:
    """A hook on what the model is given, (batch, channels, frames, height, width); the last 16 are the reference's."""

    def hook(now: dict[str, float], args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.cat([args[0][:, :20], change(args[0][:, 20:], now["sigma"])], 1),)

    return hook


def smaller_and_back(latents: Tensor, sigma: float) -> Tensor:
    frames, settings = latents.transpose(1, 2).flatten(0, 1), {"mode": "bilinear", "antialias": True}
    small = functional.interpolate(frames, (SIDE // 2, SIDE // 2), **settings)
    return functional.interpolate(small, (SIDE, SIDE), **settings).unflatten(0, (-1, FRAMES)).transpose(1, 2)


def pushed(latents: Tensor, sigma: float) -> Tensor:
    first, later = latents[:, :, :1], latents[:, :, 1:]
    mean = (later - first).mean((1, 3, 4), keepdim=True)
    return torch.cat([first, (first + 1.5 * (later - first - mean) + mean).clamp(-6, 6)], 2)


CHANNELS = {
    "low-pass": on_reference(lambda latents, sigma: blurred(latents, sigma) if sigma else latents),
    "down-up": on_reference(smaller_and_back),
    "painter": on_reference(pushed),
}


def first_frame_penalised(attention: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **more: Any) -> Tensor:
    if k.shape[1] != FRAME * FRAMES:
        return attention(q, k, v, heads, **more)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2).double() for part in (q, k, v))
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    logits[..., :FRAME] -= 1.2
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2).float()


def conflicting(queries: Tensor, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Queries scaled by their conflict over the picture's and the text's keys together."""
    seen, text = args[1][:, : kwargs["context_img_len"]], args[1][:, kwargs["context_img_len"] :]
    keys = torch.cat([module.norm_k_img(module.k_img(seen)), module.norm_k(module.k(text))], 1)
    q, k = (part.unflatten(2, (core.HEADS, -1)).transpose(1, 2).double() for part in (queries, keys))
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    image, words = weights[..., : seen.shape[1]].sum(-1), weights[..., seen.shape[1] :].sum(-1)
    entropy = -(weights * weights.log()).sum(-1) / math.log(weights.shape[-1])
    amount = ((image - words).clamp(min=0) / (image + words + 1e-6) * entropy).clamp(0, 2.0)
    return (q * (1 + amount[..., None])).transpose(1, 2).flatten(2).float()


def by_hand(model: Any, name: str) -> Any:
    """A clone on which hooks do what a kind is to do."""
    now: dict[str, Any] = {}

    def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
        transformer, hooks = executor.class_obj.diffusion_model, []
        now["sigma"] = float(args[1].flatten()[0])
        if name in CHANNELS:
            patches = transformer.patch_embedding
            hooks.append(patches.register_forward_pre_hook(lambda _, given: CHANNELS[name](now, given)))
        for block in (transformer.blocks[index] for index in BLOCKS):
            own, cross = block.self_attn, block.cross_attn
            if name == "key-blur":
                hooks.append(own.norm_k.register_forward_hook(lambda _, __, keys: blurred_keys(keys, 0, FRAMES)))
                hooks.append(cross.norm_k_img.register_forward_hook(lambda _, __, keys: blurred_keys(keys, 1, 1)))
            if name == "conflict-aware":
                hooks.append(
                    cross.register_forward_pre_hook(
                        lambda module, given, more: now.update(cross=(module, given, more)), with_kwargs=True
                    )
                )
                hooks.append(cross.norm_q.register_forward_hook(lambda _, __, q: conflicting(q, *now["cross"])))
            if name == "dymos":
                hooks.append(own.register_forward_pre_hook(penalised, with_kwargs=True))
        try:
            return executor(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def penalised(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        options = {**kwargs["transformer_options"], "optimized_attention_override": first_frame_penalised}
        return args, {**kwargs, "transformer_options": options}

    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "by_hand", around)
    return clone


def test_every_kind_acts_or_is_refused() -> None:
    assert {"scalar", "energy", *ACTING, *REFUSED} == set(kind_names())


@pytest.mark.parametrize("name", ACTING)
def test_a_kind_that_acts_is_what_hooks_do_by_hand(model: Any, name: str) -> None:
    clone = aligned(model, recipe=Recipe(ACTING[name], BlockSet.of("0,2"), StepWindow.all()), **AS_RECIPE)
    found, expected, plain = sampled(clone), sampled(by_hand(model, name)), sampled(model)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert (found - plain).abs().max() > 1e-3
    run = pack("patch").patch_of(clone).run
    assert run.acted == 4 * (1 if name in CHANNELS else 4 if name == "key-blur" else 2) and not run.notes
    assert torch.equal(sampled(model), plain)


def test_a_picture_that_clip_has_not_seen_is_said_to_be_missing(model: Any) -> None:
    unseen = core.conditioning(1, picture=False), core.conditioning(2, picture=False)
    for modulation in (ConflictAware(3.0), KeyBlur(sigma=1.0)):
        clone = aligned(model, recipe=Recipe(modulation, BlockSet.of("0,2"), StepWindow.all()), **AS_RECIPE)
        with pytest.raises(AlignvidError, match="no CLIP vision output"):
            core.sampled(clone, prompts=unseen)
