"""Kinds of modulation in a recipe, on ComfyUI's own Wan: they act, or are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import comfyui_core as core
from alignvid import Energy, Recipe, Scalar, StepWindow
from alignvid.blocks import BlockSet
from alignvid.errors import AlignvidError
from alignvid.modulation.registry import kind_named, kind_names
from comfyui_aligned import GAMMA, POWERS, aligned
from comfyui_pack import pack

AS_RECIPE = {"strength": "preset", "blocks": "", "steps": "", "streams": ""}
REFUSED = {
    "conflict-aware": "a softmax for each of its key norms",
    "log-bias": "alone in its softmax",
    "emphasis": "prompt",
    "key-blur": "lie on no grid",
    "low-pass": "no channels of a reference image",
    "grag": "a softmax for each of its key norms",
    "dcag": "a softmax for each of its key norms",
    "ref-kv": "a softmax for each of its key norms",
    "dymos": "takes no attention mask of ours",
    "painter": "no channels of a reference image",
    "down-up": "no channels of a reference image",
    "alg": "no channels of a reference image",
    "nag": "calls a kernel by itself",
}
"""Why a kind cannot act there; what is not here acts."""


@pytest.fixture(scope="module")
def model() -> Any:
    return core.wan()


def always(sigma: float, number: int) -> bool:
    return True


@pytest.mark.parametrize("name", [name for name in kind_names() if name not in REFUSED])
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
