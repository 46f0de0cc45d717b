"""A host of another library, described by data: its loop calls `model_fn`, and the transformer's forward never."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid.errors import AlignvidError, AttachmentError, ContractWarning, UnknownTarget
from alignvid.host import registry
from alignvid.models import Family, KeyNorm, OwnCache, Reads, Site, Stack, Time
from alignvid.models import registry as families
from plain_model import PLAIN, plain_model

STEPS = 10
GAMMA = 1.5


def run_blocks(dit: Any, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """What the transformer's forward does, without calling it."""
    for block in dit.trunk.blocks:
        latents = block(latents + timestep[:, None, None], context)
    return latents


class LoopPipeline(nn.Module):
    """A pipeline that is a module, with a scheduler that says its timesteps alone, and guidance in two passes."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.inputs = plain_model()
        self.scheduler = SimpleNamespace(timesteps=None)
        self.model_fn = run_blocks
        self.by_hand: Any = lambda step, is_cond: 1.0

    @torch.no_grad()
    def forward(self) -> Tensor:
        levels = 1 - torch.arange(STEPS) / STEPS
        self.scheduler.timesteps = 3 * levels / (1 + 2 * levels)
        latents, prompt = self.inputs["x"], self.inputs["context"]
        for step, timestep in enumerate(self.scheduler.timesteps):
            predictions = []
            for context in (prompt, -prompt):
                self.dit.gain = self.by_hand(step, context is prompt)
                given = {"latents": latents, "timestep": timestep.clone()[None], "context": context}
                predictions.append(self.model_fn(dit=self.dit, **given))
            latents = latents - 0.1 * (predictions[1] + 3.0 * (predictions[0] - predictions[1]))
        return latents


def by_hand(pipe: LoopPipeline, acts: Any) -> Tensor:
    """The same run, with the text keys of all blocks scaled by hooks."""
    pipe.by_hand = lambda step, is_cond: GAMMA if acts(step, is_cond) else 1.0
    norms = [block.cross_attn.norm_k for block in pipe.dit.trunk.blocks]
    hooks = [norm.register_forward_hook(lambda _, __, keys: keys * pipe.dit.gain) for norm in norms]
    try:
        return pipe()
    finally:
        pipe.by_hand = lambda step, is_cond: 1.0
        for hook in hooks:
            hook.remove()


def example() -> str:
    page = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text(encoding="utf-8")
    return page.split("```python\n")[1].partition("```")[0]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopPipeline]:
    """The pipeline, its family registered and the host described by the documentation's example, word for word."""
    monkeypatch.setattr(families, "_registered", {"plain": PLAIN})
    monkeypatch.setattr(registry, "_registered", {})
    exec(example(), {})
    yield LoopPipeline()


def levels(step: int) -> float:
    level = 1 - step / STEPS
    return 3 * level / (1 + 2 * level)


@pytest.mark.parametrize(
    ("recipe", "acts"),
    [
        ({"steps": (0.0, 0.3)}, lambda step, is_cond: step < 3),
        ({"steps": alignvid.StepWindow.noise_above(0.8)}, lambda step, is_cond: levels(step) > 0.8),
        ({"steps": (0.2, 0.5), "branch": "cond"}, lambda step, is_cond: 2 <= step < 5 and is_cond),
        ({"steps": "all", "branch": "uncond"}, lambda step, is_cond: not is_cond),
    ],
    ids=["fraction", "noise", "cond", "uncond"],
)
def test_a_door_is_as_exact_as_keys_scaled_by_hand(pipe: LoopPipeline, recipe: dict[str, Any], acts: Any) -> None:
    plain, expected = pipe(), by_hand(pipe, acts)
    with alignvid.attach(pipe, "generic", gamma=GAMMA, blocks="all", streams=["cross.text"], **recipe) as attachment:
        found, again = pipe(), pipe()
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found, again)
    assert attachment.forward_count == 2 * 2 * STEPS
    assert torch.equal(pipe(), plain)
    assert pipe.model_fn is run_blocks


def test_a_door_without_the_name_of_an_argument_runs_the_one_transformer(
    pipe: LoopPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, recipe = pipe(), {"gamma": GAMMA, "blocks": "all", "streams": ["cross.text"], "steps": "all"}
    with alignvid.attach(pipe, "generic", **recipe):
        expected = pipe()
    loop = registry.runner_of(pipe)
    monkeypatch.setattr(registry, "_registered", {"loop": replace(loop, door=replace(loop.door, transformer=""))})
    with alignvid.attach(pipe, "generic", **recipe):
        assert torch.equal(pipe(), expected)
    assert torch.equal(pipe(), plain)


@pytest.mark.parametrize("argument", ["", "dit"])
def test_of_several_transformers_a_door_must_say_which_one_a_call_runs(
    pipe: LoopPipeline, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    pipe.other, loop = plain_model()[0], registry.runner_of(pipe)
    described = replace(
        loop,
        transformers=lambda model: {"dit": model.dit, "other": model.other},
        door=replace(loop.door, transformer=argument),
    )
    monkeypatch.setattr(registry, "_registered", {"loop": described})
    if argument:
        with alignvid.attach(pipe, "generic", steps="all") as attachment:
            pipe()
        assert attachment.forward_count == 2 * STEPS
    else:
        with pytest.raises(AttachmentError, match=r"dit, other, .* does not say which one a call of `model_fn` runs"):
            alignvid.attach(pipe, "generic", steps="all")


def test_another_transformer_behind_a_door_is_said_once(pipe: LoopPipeline) -> None:
    kind, plain = type(pipe), pipe()
    alignvid.attach(pipe, "generic", gamma=GAMMA, blocks="all", streams=["cross.text"], steps="all")
    expected = pipe()
    first, pipe.dit = pipe.dit, plain_model()[0]
    with pytest.warns(ContractWarning, match="does not act in this run: it runs another PlainVideoModel"):
        assert torch.equal(pipe(), plain)
    pipe()  # said once
    pipe.dit = first
    assert torch.equal(pipe(), expected)
    alignvid.detach(pipe)
    assert torch.equal(pipe(), plain) and type(pipe) is kind


def test_the_example_is_short() -> None:
    assert len(example().splitlines()) <= 45


def test_a_loop_without_a_description_is_refused(pipe: LoopPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(AlignvidError, match="at `dit`"):
        alignvid.attach(pipe)
    with alignvid.attach(pipe.dit, "generic"), pytest.raises(AttachmentError, match=r"docs/hosts\.md"):
        pipe()


def test_the_proof_goes_through_the_door(pipe: LoopPipeline) -> None:
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.3)) as attachment:
        pipe()
        before = attachment.acted_count
        proof = attachment.proof()
    assert proof.has_changed_anything and attachment.acted_count == before


def test_a_copy_is_attached_as_the_original_is_and_detaches_alone(pipe: LoopPipeline) -> None:
    plain = pipe()
    with alignvid.attach(pipe, "generic") as attachment:
        copied = copy.deepcopy(pipe)
        modulated = copied()
        assert attachment.forward_count == 0 and not torch.equal(modulated, plain)
        alignvid.detach(copied)
        assert torch.equal(copied(), plain) and not torch.equal(pipe(), plain)
    assert torch.equal(pipe(), plain)


def test_what_a_door_needs_is_named_where_it_is_missing(pipe: LoopPipeline) -> None:
    with alignvid.attach(pipe, "generic"), pytest.raises(AttachmentError, match="without a transformer as `dit`"):
        pipe.model_fn(latents=pipe.inputs["x"])
    pipe.model_fn = None
    with pytest.raises(AttachmentError, match="no `model_fn` to call"):
        alignvid.attach(pipe, "generic")


def test_observing_through_a_door_changes_nothing_and_hears_each_step_and_pass(pipe: LoopPipeline) -> None:
    plain = pipe()
    with alignvid.observe(pipe, steps=(0.0, 0.3)) as trace:
        assert torch.equal(pipe(), plain)
    assert pipe.model_fn is run_blocks and "model_fn" in vars(pipe)
    entropy = [fact for fact in trace.facts if (fact.site, fact.measure) == ("cross", "entropy")]
    assert {(fact.step, fact.branch) for fact in entropy} == {(s, b) for s in range(3) for b in ("cond", "uncond")}
    assert {round(fact.noise_level, 5) for fact in entropy} == {round(levels(step), 5) for step in range(3)}

    with alignvid.attach(pipe, "generic", gamma=GAMMA, blocks="all", streams=["cross.text"], steps="all"):
        expected = pipe()
        with alignvid.observe(pipe, steps=(0.0, 0.3)) as gained:
            assert torch.equal(pipe(), expected)
        assert torch.equal(pipe(), expected)
    assert gained.origin["attached"]["dit"]["name"].startswith("generic")
    first = [
        next(f for f in facts if f.measure == "entropy" and f.site == "cross") for facts in (trace.facts, gained.facts)
    ]
    assert first[1].values[0] < first[0].values[0]  # sharper
    assert pipe.model_fn is run_blocks and torch.equal(pipe(), plain)


def test_two_attachments_take_turns_on_one_model_each_with_its_own_counts(pipe: LoopPipeline) -> None:
    plain = pipe()
    weak = alignvid.attach(pipe, "generic", gamma=1.2, steps="all")
    expected = pipe()
    weak.withdraw()
    strong = alignvid.attach(pipe, "generic", gamma=1.8, steps="all")
    assert not torch.equal(pipe(), expected)
    strong.withdraw()
    assert torch.equal(pipe(), plain)
    weak.put_back()
    assert torch.equal(pipe(), expected)
    assert (weak.forward_count, strong.forward_count) == (4 * STEPS, 2 * STEPS)
    with pytest.raises(AttachmentError, match="already attached"):
        strong.put_back()
    strong.detach()
    assert torch.equal(pipe(), expected)
    weak.detach()
    assert torch.equal(pipe(), plain) and not weak.is_attached


def test_a_withdrawn_attachment_keeps_its_place_in_the_run(pipe: LoopPipeline) -> None:
    expected = by_hand(pipe, lambda step, is_cond: step < 3)
    attachment = alignvid.attach(pipe, "generic", gamma=GAMMA, blocks="all", steps=(0.0, 0.3))
    attachment.withdraw()
    loop = pipe.model_fn

    def in_turns(**given: Any) -> Tensor:
        pipe.model_fn = loop
        attachment.put_back()
        try:
            return pipe.model_fn(**given)
        finally:
            attachment.withdraw()
            pipe.model_fn = in_turns

    pipe.model_fn = in_turns
    torch.testing.assert_close(pipe(), expected, atol=1e-5, rtol=1e-5)
    assert "withdrawn" in str(attachment) and attachment.active_forward_count == 2 * 3
    attachment.detach()
    with pytest.raises(AttachmentError, match="detached"):
        attachment.withdraw()


class Cache(dict[str, Any]):
    """One of a pass: it keeps what the blocks added, and computes where it was made to."""


class CachedPipeline(LoopPipeline):
    """Guidance in three passes, the last two with one text, each with a cache that the loop makes for it."""

    @torch.no_grad()
    def forward(self) -> Tensor:
        levels = 1 - torch.arange(STEPS) / STEPS
        self.scheduler.timesteps = 3 * levels / (1 + 2 * levels)
        latents, prompt = self.inputs["x"], self.inputs["context"]
        texts, caches = (prompt, -prompt, -prompt), [Cache(limit=0.0), Cache(limit=0.0), Cache(limit=0.0)]
        self.computed: list[list[int]] = [[], [], []]
        for step, timestep in enumerate(self.scheduler.timesteps):
            for order, (context, cache) in enumerate(zip(texts, caches, strict=True)):
                given = {"latents": latents, "timestep": timestep.clone()[None], "context": context}
                latents = self.model_fn(dit=self.dit, **given, cache=cache, note=(step, order))
        return latents

    def cached(self, dit: Any, cache: Cache, note: tuple[int, int], **given: Any) -> Tensor:
        if cache.get("kept") is None or cache["limit"] == torch.inf:
            self.computed[note[1]].append(note[0])
            cache.update(kept=run_blocks(dit, **given) - given["latents"], limit=0.0)
        return given["latents"] + cache["kept"]


@pytest.mark.parametrize(
    ("branch", "computed"),
    [("both", [[0, 3], [0, 3], [0, 3]]), ("cond", [[0, 3], [0], [0]]), ("uncond", [[0], [0, 3], [0, 3]])],
)
def test_a_cache_that_each_pass_is_given_forgets_where_the_gain_ends_in_that_pass(
    monkeypatch: pytest.MonkeyPatch, branch: str, computed: list[list[int]]
) -> None:
    time = replace(PLAIN.time, text="context")
    own = OwnCache(lambda _, arguments: arguments["cache"], lambda kept: kept.update(limit=torch.inf))
    monkeypatch.setattr(families, "_registered", {"plain": replace(PLAIN, reads=Reads(cache=own), time=time)})
    monkeypatch.setattr(registry, "_registered", {})
    exec(example(), {})
    pipe = CachedPipeline()
    pipe.model_fn = pipe.cached
    plain = pipe()
    assert pipe.computed == [[0], [0], [0]]
    attachment = alignvid.attach(
        pipe, "generic", gamma=GAMMA, blocks="all", streams=["cross.text"], steps=(0.0, 0.3), branch=branch
    )
    assert not torch.equal(pipe(), plain)
    assert pipe.computed == computed
    attachment.detach()
    assert torch.equal(pipe(), plain)


class HandedOver(nn.Module):
    """An attention that runs no norm, and hands its keys to a function that it is given."""

    def forward(self, query: Tensor, key: Tensor, *, kernel: Any = torch.matmul) -> Tensor:
        return kernel(query, key.mT)


def through_kernel(args: Any, kwargs: dict[str, Any], scale: Any) -> tuple[Any, Any]:
    kernel = kwargs.get("kernel", torch.matmul)
    return args, {**kwargs, "kernel": lambda query, key: kernel(query, scale(key.mT).mT)}


def test_keys_without_a_norm_are_reached_through_the_arguments_of_their_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.ModuleDict({"attn": HandedOver()})])

        def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
            return self.blocks[0]["attn"](x, x, kernel=lambda query, key: torch.matmul(query, key) + 1.0)

    keys = KeyNorm("", ("video", "text"), reach=through_kernel)
    family = Family(
        "handing",
        (f"{Model.__module__}:Model",),
        (Stack("blocks", (Site("self", "attn", (keys,)),)),),
        reads=Reads(token_counts=lambda *_: {"video": 2}),
        time=Time(scale=1.0),
    )
    monkeypatch.setattr(families, "_registered", {"handing": family})
    model, x = Model(), torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([1.0, 1.0, 1.5, 1.5, 1.5])
    with alignvid.attach(model, "generic", gamma=1.5, streams=["self.text"], steps="all", blocks="all") as attachment:
        torch.testing.assert_close(model(x, torch.ones(1)), x @ (x * factors[:, None]).mT + 1.0)
        assert attachment.acted_count == 1
        assert attachment.proof().has_changed_anything
    torch.testing.assert_close(model(x, torch.ones(1)), x @ x.mT + 1.0)
    energy = alignvid.Recipe(alignvid.Energy(1.5, powers={"self.text": 1.0}))
    with pytest.raises(UnknownTarget, match="no key norm"):
        alignvid.attach(model, energy)


class InPlace(nn.Module):
    """A block that writes to what it is given, as ComfyUI's Flux does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_k = nn.RMSNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x += torch.softmax(x @ self.norm_k(x).mT, -1) @ x
        return x


def test_a_proof_of_a_block_that_writes_to_its_input_compares_equal_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([InPlace()])

        def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
            return self.blocks[0](x.clone())

    site = Site("self", "", (KeyNorm("norm_k", ("text",)),), writes_to_input=True)
    family = Family("writing", (f"{Writing.__module__}:Writing",), (Stack("blocks", (site,)),), time=Time(scale=1.0))
    monkeypatch.setattr(families, "_registered", {"writing": family})
    model, x = Writing(), torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    plain = model(x, torch.ones(1)).detach()
    with torch.no_grad(), alignvid.attach(model, "generic", gamma=1.5, steps="all") as attachment:
        expected = float((model(x, torch.ones(1)) - plain).norm() / plain.norm())
        assert attachment.proof().changes[0] == pytest.approx(expected, rel=1e-5)
