"""Wan 2.2 on ComfyUI's own classes: two experts in two samplers, each of which sees its own steps; the 5B model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import comfyui_core as core
from alignvid.errors import AlignvidError
from comfyui_aligned import GAMMA, aligned, schedule
from comfyui_pack import pack

nodes, patch, report = pack("nodes"), pack("patch"), pack("report")
STEPS, FIRST = 20, 10
TEXT = {"cross_attn.norm_k": GAMMA}
PROMPTS = core.conditioning(1, picture=False), core.conditioning(2, picture=False)
WIDGETS = dict(
    preset="generic:generic",
    strength="gamma",
    gamma=GAMMA,
    follow=0.0,
    blocks="0,2",
    steps="",
    streams="cross.text",
    branch="preset",
)


@pytest.fixture(scope="module")
def experts() -> tuple[Any, Any]:
    """High and low noise: image-to-video without keys of the picture, which lies in 20 of the 36 channels."""
    return tuple(core.wan("WAN21_T2V", in_dim=36, seed=seed) for seed in (0, 1))  # type: ignore[return-value]  # two


def in_turn(high: Any, low: Any) -> tuple[Tensor, Tensor]:
    """As two KSamplerAdvanced run them: what the first leaves over, and what the second makes of it."""
    more = {"steps": STEPS, "cfg": 3.0, "prompts": PROMPTS}
    first = core.sampled(high, last_step=FIRST, **more)
    return first, core.sampled(low, start_step=FIRST, noise=torch.zeros_like(first), latent=first, **more)


def by_hand(model: Any, acts: Any) -> Any:
    return core.by_hand(model, TEXT, (0, 2), lambda sigma, number: acts(sigma))


def words(model: Any) -> str:
    return report.report_of(patch.patch_of(model))[0]


def check(experts: tuple[Any, Any], nodes: tuple[Any, Any], acts: tuple[Any, Any]) -> None:
    expected = in_turn(*(by_hand(model, rule) for model, rule in zip(experts, acts, strict=True)))
    plain = in_turn(*experts)
    assert plain[1].isfinite().all() and not torch.equal(plain[1], expected[1])
    for found, wanted in zip(in_turn(*nodes), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("stop", [0.9, 0.5])
def test_a_noise_window_is_one_for_both_experts(experts: tuple[Any, Any], stop: float) -> None:
    """Above 0.9 it lies within the first one; above 0.5 it ends within the second."""
    sigmas = schedule(experts[0], steps=STEPS)
    assert sigmas[FIRST] < 0.9
    both = tuple(aligned(model, steps=f"noise>{stop}", streams="cross.text") for model in experts)
    check(experts, both, (lambda sigma: sigma > stop,) * 2)
    runs = [patch.patch_of(model).run for model in both]
    inside = [sum(sigma > stop for sigma in part) for part in (sigmas[:FIRST], sigmas[FIRST:])]
    assert [len(run.active_steps) for run in runs] == inside and all(run.is_slice for run in runs)
    assert "ran no whole schedule" not in words(both[0])
    if stop == 0.9:
        with pytest.raises(AlignvidError, match=r"in none of 10 forwards \(10 steps, noise level 0\.[78]"):
            words(both[1])


def test_a_fraction_counts_in_each_sampler_alone_and_the_report_says_over_which_part(experts: tuple[Any, Any]) -> None:
    sigmas = schedule(experts[0], steps=STEPS)
    both = tuple(aligned(model, steps="0.0-0.3", streams="cross.text") for model in experts)
    check(experts, both, tuple(lambda s, last=sigmas[first + 2]: s >= last - 1e-6 for first in (0, FIRST)))
    for model, first in zip(both, (0, FIRST), strict=True):
        said = words(model)
        assert patch.patch_of(model).run.active_steps == {0, 1, 2}
        assert "was counted over its 10 steps alone" in said
        assert f"noise level {sigmas[first]:.2f} to {sigmas[first + FIRST - 1]:.2f}" in said


def test_the_presets_window_is_one_of_noise_levels_where_a_sampler_runs_a_part(experts: tuple[Any, Any]) -> None:
    """The default of the node: 30 % of the whole schedule, whatever part of it is run; of a whole one, its steps."""
    edge = experts[0].get_model_object("model_sampling").percent_to_sigma(0.3)
    both = tuple(nodes.AlignVid.execute(model, **WIDGETS).result[0] for model in experts)
    check(experts, both, (lambda sigma: sigma > edge + 1e-6, lambda sigma: False))
    assert "the preset's window is taken as noise level >" in words(both[0])
    with pytest.raises(AlignvidError, match="in none of 10 forwards"):
        words(both[1])
    whole = core.sampled(both[0], steps=STEPS, prompts=PROMPTS)
    assert torch.equal(whole, core.sampled(both[0], steps=STEPS, prompts=PROMPTS))
    assert patch.patch_of(both[0]).run.active_steps == set(range(6)) and "taken as" not in words(both[0])


def test_the_5b_model_is_as_exact() -> None:
    model = core.wan("WAN22_T2V", in_dim=48, out_dim=48)
    given = {"shape": (1, 48, 2, 4, 4), "prompts": PROMPTS, "cfg": 3.0}
    for stream, norm in (("cross.text", "cross_attn.norm_k"), ("self.video", "self_attn.norm_k")):
        clone = aligned(model, streams=stream)
        expected = core.sampled(core.by_hand(model, {norm: GAMMA}, (0, 2), lambda *_: True), **given)
        torch.testing.assert_close(core.sampled(clone, **given), expected, atol=1e-6, rtol=1e-6)
        assert not torch.equal(expected, core.sampled(model, **given)) and patch.patch_of(clone).run.acted == 10 * 2
