"""What forgets at an edge, beside the libraries of tests/combinations: slots, a family's own cache, unknown caches."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanTransformer3DModel
from torch import Tensor, nn

import alignvid
from alignvid import StepWindow
from alignvid.host.caches import EdgeWatch, SkipWatch
from alignvid.host.caches.cache import Slots
from alignvid.models import registry
from alignvid.models.builtin.wan import FAMILY as WAN
from five import RECIPE
from pipelines import WAN_TRANSFORMER, awoken

BLOCKS = WAN_TRANSFORMER["num_layers"]
ACTS, ACTS_NOT = 900.0, 100.0
"""Timesteps in and out of the window, for a bare transformer."""
HIGH_NOISE = StepWindow.noise_above(0.5)


class SkippingBlocks(nn.Module):
    """Blocks that run whole once and then are left out for as long as `is_on`: what they added is added again."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks
        self.is_on = True
        self.kept: Tensor | None = None

    def forward(self, hidden_states: Tensor, *args: Any) -> Tensor:
        if self.is_on and self.kept is not None:
            return hidden_states + self.kept
        after = hidden_states
        for block in self.blocks:
            after = block(after, *args)
        self.kept = after - hidden_states
        return after


class CachedWan(WanTransformer3DModel):
    """A model with a cache of its own, of which nobody knows but its family."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        blocks = self.blocks
        cache = vars(self).setdefault("cache", SkippingBlocks(blocks))  # not a submodule: the paths are as before
        self.blocks = nn.ModuleList([cache])
        try:
            return super().forward(*args, **kwargs)
        finally:
            self.blocks = blocks


def forget(transformer: nn.Module) -> None:
    cache = vars(transformer).get("cache")
    if cache is not None:
        cache.kept = None


@pytest.fixture
def cached_wan(monkeypatch) -> CachedWan:
    monkeypatch.setattr(registry, "_registered", {})
    registry.register(
        replace(
            WAN, name="cached_wan", transformers=(f"{__name__}:CachedWan",), reads=replace(WAN.reads, forget=forget)
        )
    )
    torch.manual_seed(0)
    return awoken(CachedWan(**WAN_TRANSFORMER).eval())


@torch.no_grad()
def run(transformer: nn.Module, timestep: float) -> Tensor:
    generator = torch.Generator().manual_seed(int(timestep))
    video = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 8, WAN_TRANSFORMER["text_dim"], generator=generator)
    steps = torch.tensor([timestep])
    return transformer(hidden_states=video, timestep=steps, encoder_hidden_states=text, return_dict=False)[0]


def uncached(transformer: CachedWan, timestep: float) -> Tensor:
    """The same weights without the cache, the gain acting at high noise."""
    plain = WanTransformer3DModel(**WAN_TRANSFORMER).eval()
    plain.load_state_dict(transformer.state_dict())
    with alignvid.attach(plain, RECIPE, steps=HIGH_NOISE):
        return run(plain, timestep)


@pytest.mark.contract(
    "caches",
    done="a family's own cache, with `forget`",
    guaranteed="it computes whole at both edges and skips elsewhere",
)
def test_a_family_s_own_cache_forgets_at_both_edges_and_skips_elsewhere(cached_wan):
    ran: list[int] = []
    cached_wan.blocks[0].register_forward_hook(lambda *_: ran.append(1))
    alignvid.attach(cached_wan, RECIPE, steps=HIGH_NOISE)
    for timestep, blocks_run in ((ACTS, 1), (ACTS + 1, 1), (ACTS_NOT, 2), (ACTS_NOT + 1, 2)):
        output = run(cached_wan, timestep)
        assert len(ran) == blocks_run
        if timestep in (ACTS, ACTS_NOT):
            assert torch.equal(output, uncached(cached_wan, timestep))


def test_a_family_s_own_cache_forgets_when_a_gain_is_detached(cached_wan):
    alignvid.attach(cached_wan, RECIPE, steps=HIGH_NOISE)
    run(cached_wan, ACTS)
    alignvid.detach(cached_wan)
    assert cached_wan.cache.kept is None


def test_a_family_s_own_cache_is_left_alone_when_no_gain_acted_last(cached_wan):
    alignvid.attach(cached_wan, RECIPE, steps=HIGH_NOISE)
    run(cached_wan, ACTS_NOT)
    alignvid.detach(cached_wan)
    assert cached_wan.cache.kept is not None


def key_norms_of(transformer: nn.Module) -> tuple[int, list[int]]:
    """How many key norms of cross-attention there are, and a list that grows with each that runs."""
    ran: list[int] = []
    norms = [module for name, module in transformer.named_modules() if name.endswith("attn2.norm_k")]
    for norm in norms:
        norm.register_forward_hook(lambda *_: ran.append(1))
    return len(norms), ran


def warnings_of(transformer: CachedWan, timesteps: list[float], *, is_forgetting: bool = False) -> list[str | None]:
    """What SkipWatch says after each forward of one run."""
    planned, ran = key_norms_of(transformer)
    edges = EdgeWatch(transformer, forget if is_forgetting else None)
    skips = SkipWatch()
    found = []
    for timestep in timesteps:
        is_edge = edges.see(None, timestep > 500)
        run(transformer, timestep)
        found.append(skips.see(1, None, planned, len(ran), is_edge=is_edge))
        ran.clear()
    return found


@pytest.mark.contract(
    "caches",
    done="a cache that is not known skips blocks at an edge",
    refused="a warning, once a run",
)
def test_an_unknown_cache_that_skips_where_a_gain_ends_is_warned_of_once_per_run(cached_wan):
    found = warnings_of(cached_wan, [ACTS, ACTS, ACTS_NOT, ACTS_NOT, ACTS, ACTS_NOT])
    assert [text is not None for text in found] == [False, False, True, False, False, False]
    assert f"0 of {BLOCKS} key norms ran" in found[2]
    assert "Turn it off" in found[2]


def test_an_unknown_cache_that_skips_where_a_gain_begins_is_warned_of(cached_wan):
    found = warnings_of(cached_wan, [ACTS_NOT, ACTS_NOT, ACTS, ACTS])
    assert [text is not None for text in found] == [False, False, True, False]


def test_a_cache_that_forgets_is_not_warned_of(cached_wan):
    assert warnings_of(cached_wan, [ACTS_NOT, ACTS_NOT, ACTS, ACTS, ACTS_NOT], is_forgetting=True) == [None] * 5


def test_another_run_is_warned_of_again():
    skips = SkipWatch()
    for is_edge, ran in ((False, 3), (True, 0)):
        first = skips.see(1, None, 3, ran, is_edge=is_edge)
    assert first is not None
    assert skips.see(1, None, 3, 0, is_edge=True) is None
    assert skips.see(2, None, 3, 0, is_edge=True) is not None


def test_a_pass_that_always_leaves_a_block_out_is_compared_with_itself():
    skips = SkipWatch()
    skips.see(1, "pred_cond", 3, 3, is_edge=False)
    assert skips.see(1, "pred_cond_skip", 3, 2, is_edge=True) is None
    assert skips.see(1, "pred_cond_skip", 3, 2, is_edge=True) is None
    assert skips.see(1, "pred_cond", 3, 2, is_edge=True) is not None


def test_a_slot_differs_where_any_sample_of_the_batch_does():
    slots: Slots[str] = Slots()
    assert not slots.differs("cond", False)
    assert slots.differs("cond", [False, True])
    assert not slots.differs("cond", [False, True])
    assert slots.differs("cond", [True, False])
    slots.differs("uncond", [False, False])
    assert slots.clear() == ["cond"]
    assert not slots.differs("cond", False)


def test_an_edge_is_one_of_its_pass():
    edges = EdgeWatch(nn.Linear(1, 1))
    seen = [edges.see(*forward) for forward in (("cond", True), ("uncond", False), ("cond", True), ("cond", False))]
    assert seen == [True, False, False, True]


def test_threads_that_take_turns_hand_no_residual_from_with_a_gain_to_without():
    """Each turn is at an edge, because diffusers keeps one residual for all threads: no output is of the wrong kind."""
    torch.manual_seed(0)
    transformer = awoken(WanTransformer3DModel(**WAN_TRANSFORMER).eval())
    plain = WanTransformer3DModel(**WAN_TRANSFORMER).eval()
    plain.load_state_dict(transformer.state_dict())
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    alignvid.attach(transformer, RECIPE, steps=HIGH_NOISE)
    alignvid.attach(plain, RECIPE, steps=HIGH_NOISE)

    def turn(timestep: float) -> Tensor:
        with transformer.cache_context("cond"):
            return run(transformer, timestep)

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for _ in range(2):
            assert torch.equal(one.submit(turn, ACTS).result(), run(plain, ACTS))
            assert torch.equal(other.submit(turn, ACTS_NOT).result(), run(plain, ACTS_NOT))


def test_no_cache_library_is_needed_to_watch_the_edges():
    absent = "import sys; sys.modules.update(dict.fromkeys(('diffusers', 'cache_dit', 'para_attn')));"
    watch = (
        "from torch import nn; from alignvid.host.caches import EdgeWatch; w = EdgeWatch(nn.Linear(1, 1));"
        "print(w.see('cond', True), w.see('cond', True)); w.forget_all()"
    )
    done = subprocess.run([sys.executable, "-c", absent + watch], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True False\n", 0), done.stderr


def test_a_cache_is_known_by_what_it_leaves_on_the_transformer():
    transformer = WanTransformer3DModel(**WAN_TRANSFORMER)
    watch = EdgeWatch(transformer)
    assert not watch.is_cached
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    assert watch.is_cached
    transformer.disable_cache()
    assert not watch.is_cached
