"""Modular pipelines and guiders of diffusers, against a run in which hooks written here scale the keys of some passes.

A guider decides how often the transformer runs in a step, and for which of its predictions. The passes of each step are
written down by hand; the hooks scale what leaves the key norms in those of the chosen branch, in the first half of the
steps, and the whole run must come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
from diffusers import guiders
from diffusers.guiders.guider_utils import BaseGuidance
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig
from torch import Tensor

import alignvid
from five import BUILDERS, RECIPE
from pipelines import generate

STEPS, ACTIVE_STEPS = 4, 2


class Modular(NamedTuple):
    """How a tiny pipeline's parts make a modular one."""

    blocks: str
    """Class of its blocks; those that encode the prompt and decode are taken out."""
    stack: str
    """Transformer blocks, where a guider skips some."""
    image_tokens: int = 0
    """How many of the text's keys belong to the reference image."""


MODULAR = {
    "wan_i2v": Modular("WanImage2VideoAutoBlocks", "blocks"),
    "wan22_i2v": Modular("Wan22Image2VideoBlocks", "blocks"),
    "qwen_image_edit": Modular("QwenImageEditAutoBlocks", "transformer_blocks"),
    "flux_kontext": Modular("FluxKontextAutoBlocks", "transformer_blocks"),
    "hunyuan15_i2v": Modular("", "transformer_blocks", image_tokens=4),  # guided in its normal pipeline
}

TWO = [["cond", "uncond"]] * STEPS
THIRD = [["cond", "uncond"]] + [["cond", "uncond", "cond"]] * (STEPS - 1)  # such guiders begin after the first step
WITHOUT_CFG = [["cond"]] + [["cond", "cond"]] * (STEPS - 1)

Guider = Callable[[str], BaseGuidance]
GUIDERS: dict[str, tuple[Guider, list[list[str]]]] = {
    # name: the guider, given a stack, and the branches that it runs step by step
    "ClassifierFreeGuidance": (lambda _: guiders.ClassifierFreeGuidance(3.0), TWO),
    "ClassifierFreeGuidance, half of the steps": (
        lambda _: guiders.ClassifierFreeGuidance(3.0, start=0.25, stop=0.75),
        [["cond"], ["cond", "uncond"], ["cond", "uncond"], ["cond"]],
    ),
    "ClassifierFreeZeroStarGuidance": (lambda _: guiders.ClassifierFreeZeroStarGuidance(3.0), TWO),
    "AdaptiveProjectedGuidance": (lambda _: guiders.AdaptiveProjectedGuidance(3.0, -0.5), TWO),
    "AdaptiveProjectedMixGuidance": (lambda _: guiders.AdaptiveProjectedMixGuidance(3.0), TWO),
    "MagnitudeAwareGuidance": (lambda _: guiders.MagnitudeAwareGuidance(3.0), TWO),
    "TangentialClassifierFreeGuidance": (lambda _: guiders.TangentialClassifierFreeGuidance(3.0), TWO),
    "AutoGuidance": (lambda stack: guiders.AutoGuidance(3.0, auto_guidance_config=_skipped(stack)), TWO),
    "SkipLayerGuidance": (lambda stack: _skip_layer(stack, 3.0), THIRD),
    "SkipLayerGuidance, without CFG": (lambda stack: _skip_layer(stack, 1.0), WITHOUT_CFG),
    "PerturbedAttentionGuidance": (lambda stack: _perturbed(stack), THIRD),
    "SmoothedEnergyGuidance": (lambda stack: _smoothed(stack), THIRD),
}
IMPOSSIBLE = {
    # what plain diffusers 0.42.1 fails on, without alignvid
    "wan_i2v": {"MagnitudeAwareGuidance", "PerturbedAttentionGuidance"},
    "qwen_image_edit": {"AutoGuidance", "ClassifierFreeZeroStarGuidance", "SkipLayerGuidance"},
    "hunyuan15_i2v": {
        "AutoGuidance",
        "MagnitudeAwareGuidance",
        "PerturbedAttentionGuidance",
        "SkipLayerGuidance",
    },
}
EVERY_TIME = {
    ("wan_i2v", "SkipLayerGuidance"),
    ("wan_i2v", "SkipLayerGuidance, without CFG"),
    ("wan_i2v", "SmoothedEnergyGuidance"),
    ("qwen_image_edit", "ClassifierFreeGuidance, half of the steps"),
    ("qwen_image_edit", "PerturbedAttentionGuidance"),
    ("hunyuan15_i2v", "AdaptiveProjectedGuidance"),
}


def _runs(names: Sequence[str]) -> list[Any]:
    return [
        pytest.param(name, f"guider: {guider}", marks=() if (name, guider) in EVERY_TIME else (pytest.mark.slow,))
        for name in names
        for guider in GUIDERS
        if guider not in IMPOSSIBLE[name]
    ]


def _skipped(stack: str, **options: bool) -> LayerSkipConfig:
    return LayerSkipConfig(indices=[1], fqn=stack, **options)


def _skip_layer(stack: str, scale: float) -> BaseGuidance:
    window = {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    return guiders.SkipLayerGuidance(scale, skip_layer_config=_skipped(stack), **window)


def _perturbed(stack: str) -> BaseGuidance:
    window = {"perturbed_guidance_start": 0.0, "perturbed_guidance_stop": 1.0}
    config = _skipped(stack, skip_attention=False, skip_attention_scores=True, skip_ff=False)
    return guiders.PerturbedAttentionGuidance(3.0, perturbed_guidance_config=config, **window)


def _smoothed(stack: str) -> BaseGuidance:
    config = SmoothedEnergyGuidanceConfig(indices=[1], fqn=stack)
    return guiders.SmoothedEnergyGuidance(3.0, seg_guidance_config=config)


class Guided(NamedTuple):
    """A pipeline with a guider, and what runs it."""

    pipe: Any
    run: Callable[[], Tensor]


def modular(name: str, **components: Any) -> Guided:
    """A modular pipeline of the same parts, run without text encoder and decoder."""
    pipe, call = BUILDERS[name]()
    blocks = getattr(diffusers, MODULAR[name].blocks)()
    for block in ("text_encoder", "decode"):
        blocks.sub_blocks.pop(block)
    assembled = blocks.init_pipeline()
    parts = {part: module for part, module in pipe.components.items() if module is not None}
    known = {part: module for part, module in parts.items() if part in assembled._component_specs}
    assembled.update_components(**known, **components)
    assembled.set_progress_bar_config(disable=True)
    inputs = {key: value for key, value in call.items() if key in [item.name for item in assembled.blocks.inputs]}
    inputs |= {"num_inference_steps": STEPS}

    def run() -> Tensor:
        return assembled(**inputs, generator=torch.Generator().manual_seed(0), output="latents")

    return Guided(assembled, run)


def guided(name: str, guider: str) -> Guided:
    """The pipeline with that guider."""
    made = GUIDERS[guider][0](MODULAR[name].stack)
    if MODULAR[name].blocks:
        return modular(name, guider=made)
    pipe, call = BUILDERS[name]()
    pipe.guider = made
    return Guided(pipe, lambda: generate(pipe, call, num_inference_steps=STEPS))


@contextmanager
def scaled_by_hand(pipe: Any, passes: list[list[str]], branch: str, image_tokens: int) -> Iterator[None]:
    """Keys times γ, those of text times γ², in the passes of a branch in the first half of the steps."""
    branches = [(step, name) for step, names in enumerate(passes) for name in names]
    running = iter(step < ACTIVE_STEPS and branch in ("both", name) for step, name in branches)
    is_acting = [False]

    def begin(*_: Any) -> None:
        is_acting[0] = next(running)

    def scale(norm: str, keys: Tensor) -> Tensor:
        is_text = norm.endswith("attn2.norm_k") or (norm.endswith("norm_added_k") and "attn2" not in norm)
        gain = torch.full((keys.shape[1],), RECIPE.gamma**2 if is_text else RECIPE.gamma)
        if is_text:
            gain[:image_tokens] = RECIPE.gamma
        return keys * gain.view(1, -1, *[1] * (keys.ndim - 2)) if is_acting[0] else keys

    with ExitStack() as undo:
        for host in (name for name in ("transformer", "transformer_2") if name in pipe.components):
            transformer = getattr(pipe, host)
            undo.callback(transformer.register_forward_pre_hook(begin).remove)
            for name, module in transformer.named_modules():
                if name.endswith(("norm_k", "norm_added_k")):
                    hook = module.register_forward_hook(lambda _, args, keys, name=name: scale(name, keys))
                    undo.callback(hook.remove)
        yield
    assert next(running, None) is None  # as many passes as written down


def assert_each_branch_is_as_by_hand(name: str, made: Guided, passes: list[list[str]]) -> None:
    plain = made.run()
    for branch in ("both", "cond", "uncond"):
        with scaled_by_hand(made.pipe, passes, branch, MODULAR[name].image_tokens):
            expected = made.run()
        with alignvid.attach(made.pipe, RECIPE, branch=branch):
            actual = made.run()
        assert torch.equal(actual, expected), branch
        is_run = any(branch in ("both", part) for step in passes[:ACTIVE_STEPS] for part in step)
        assert torch.equal(actual, plain) != is_run, branch
    assert torch.equal(made.run(), plain)


@pytest.mark.combines
@pytest.mark.filterwarnings(
    "ignore:.*blocks.1.self, blocks.1.cross"
)  # AutoGuidance's unconditional pass has no block 1
@pytest.mark.parametrize(("name", "combination"), _runs(["wan_i2v", "qwen_image_edit"]))
def test_each_branch_of_a_guider_in_a_modular_pipeline_is_as_by_hand(name, combination, record_property):
    guider = combination.removeprefix("guider: ")
    assert_each_branch_is_as_by_hand(name, guided(name, guider), GUIDERS[guider][1])
    record_property("pipeline", type(BUILDERS[name]()[0]).__name__)


@pytest.mark.parametrize(("name", "guider"), _runs(["hunyuan15_i2v"]))
def test_each_branch_of_a_guider_in_a_normal_pipeline_is_as_by_hand(name, guider):
    words = guider.removeprefix("guider: ")
    assert_each_branch_is_as_by_hand(name, guided(name, words), GUIDERS[words][1])


def test_each_transformer_of_a_modular_pipeline_follows_its_own_guider():
    """Wan 2.2: the second pass of the second one is no unconditional one."""
    parts = {"guider": guiders.ClassifierFreeGuidance(3.0), "guider_2": _skip_layer("blocks", 1.0)}
    made = modular("wan22_i2v", **parts)
    made.pipe.register_to_config(boundary_ratio=0.95)  # the first step alone runs the first one
    passes = [["cond", "uncond"]] + [["cond", "cond"]] * (STEPS - 1)
    assert_each_branch_is_as_by_hand("wan22_i2v", made, passes)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["modular pipeline"])
@pytest.mark.parametrize("name", ["wan_i2v", "qwen_image_edit", "flux_kontext"])
def test_a_modular_pipeline_has_the_targets_of_the_normal_one_and_keeps_its_window(name, combination, record_property):
    pipe, _ = BUILDERS[name]()
    made = modular(name)
    passes_per_step = 1 if name == "flux_kontext" else 2
    expected = alignvid.attach(pipe, RECIPE).gains
    alignvid.detach(pipe)
    with alignvid.attach(made.pipe, RECIPE) as attachment:
        made.run()
    assert attachment.gains == expected
    assert attachment.active_forward_count == ACTIVE_STEPS * passes_per_step
    assert attachment.forward_count == STEPS * passes_per_step
    record_property("pipeline", type(pipe).__name__)
