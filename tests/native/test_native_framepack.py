"""FramePack's own transformer in its own sampler, and FramePack-Studio's, from checkouts (make test-hosts)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid import FlowSchedule, StepWindow, presets
from alignvid.host import Host
from alignvid.host.fingerprint import fingerprint_of
from alignvid.models import family_of
from native_code import imported_from, needs, overheard

KINDS = [pytest.param(name, marks=needs(name)) for name in ("FramePack", "FramePack-Studio")]
GAMMA, STEPS, SHIFT = 1.5, 6, 7.0
TEXT, PICTURE = 9, 16


class Native:
    """The transformer, and one run of `sample_hunyuan`."""

    def __init__(self, model: Any, sample: Callable[..., Tensor]) -> None:
        self.model, self.sample = model, sample
        torch.manual_seed(1)
        self.prompts = torch.randn(2, 1, 12, 32)
        self.mask = torch.tensor([[1] * TEXT + [0] * (12 - TEXT)])
        self.pooled = torch.randn(1, 24)
        self.history = [torch.randn(1, 16, frames, 8, 8) for frames in (2, 2, 4)]
        self.picture = torch.randn(1, PICTURE, 40)

    def run(self, guidance: float = 1.0) -> Tensor:
        clean, twice, four = self.history
        return self.sample(
            transformer=self.model, width=64, height=64, frames=9, num_inference_steps=STEPS, shift=SHIFT,
            real_guidance_scale=guidance, generator=torch.Generator().manual_seed(3), dtype=torch.float32,
            prompt_embeds=self.prompts[0], negative_prompt_embeds=self.prompts[1], prompt_embeds_mask=self.mask,
            negative_prompt_embeds_mask=self.mask, prompt_poolers=self.pooled, negative_prompt_poolers=self.pooled,
            image_embeddings=self.picture, latent_indices=torch.arange(3)[None],
            clean_latents=clean, clean_latent_indices=torch.tensor([[10, 11]]),
            clean_latents_2x=twice, clean_latent_2x_indices=torch.tensor([[12, 13]]),
            clean_latents_4x=four, clean_latent_4x_indices=torch.arange(14, 18)[None],
        )  # fmt: skip

    def by_hand(self, scale: Callable[[str, Tensor], Tensor], acts: Callable[[float, bool], bool], **run: Any) -> Any:
        now = SimpleNamespace(acts=False, count=0)

        def note(model: Any, args: Any, kwargs: Any) -> None:
            is_cond = torch.equal(kwargs["encoder_hidden_states"], self.prompts[0])
            now.acts = acts(float(kwargs["timestep"].max()) / 1000.0, is_cond)

        hooks = [self.model.register_forward_pre_hook(note, with_kwargs=True)]
        for name, module in self.model.named_modules():
            if name.rpartition(".")[2] in ("norm_k", "norm_added_k") and "refiner" not in name:
                hooks.append(
                    module.register_forward_hook(lambda _, __, k, name=name: scale(name, k) if now.acts else k)
                )
        try:
            return self.run(**run)
        finally:
            for hook in hooks:
                hook.remove()


@pytest.fixture(scope="module", params=KINDS)
def native(request: pytest.FixtureRequest) -> Iterator[Native]:
    modules = (
        "diffusers_helper.models.hunyuan_video_packed",
        "diffusers_helper.pipelines.k_diffusion_hunyuan",
    )
    with imported_from(request.param, *modules) as (model_file, sampler_file):
        torch.manual_seed(0)
        model = model_file.HunyuanVideoTransformer3DModelPacked(
            num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=3, num_refiner_layers=1,
            text_embed_dim=32, pooled_projection_dim=24, rope_axes_dim=(4, 6, 6), has_image_proj=True,
            image_proj_dim=40, has_clean_x_embedder=True,
        ).eval()  # fmt: skip
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        yield Native(model, sampler_file.sample_hunyuan)


def tokens(stream: str, keys: Tensor, is_double: bool, is_added: bool) -> slice:
    """Where a stream lies on the keys of a norm: [history | video | picture | text]; a double block has two norms."""
    video, total = 3 * 4 * 4, keys.shape[1]
    if is_added:
        return {"image": slice(0, PICTURE), "text": slice(PICTURE, total)}.get(stream, slice(0, 0))
    end = total if is_double else total - PICTURE - TEXT
    return {
        "history": slice(0, end - video),
        "video": slice(end - video, end),
        "image": slice(0, 0) if is_double else slice(end, end + PICTURE),
        "text": slice(0, 0) if is_double else slice(end + PICTURE, total),
    }[stream]


@pytest.mark.parametrize("stream", ["history", "video", "image", "text"])
@pytest.mark.parametrize(
    ("steps", "branch", "guidance"),
    [
        ("all", "both", 1.0),
        (StepWindow.noise_above(0.9), "both", 1.0),
        ((0.0, 0.5), "both", 1.0),
        ((0.0, 0.5), "cond", 3.0),
    ],
    ids=["all", "noise", "fraction", "cond"],
)
def test_every_stream_is_as_exact_as_keys_scaled_by_hand(
    native: Native, stream: str, steps: Any, branch: str, guidance: float
) -> None:
    levels = FlowSchedule(STEPS, SHIFT).noise_levels
    edge = 0.9 if isinstance(steps, StepWindow) else (levels[STEPS // 2 - 1] + levels[STEPS // 2]) / 2

    def acts(level: float, is_cond: bool) -> bool:
        return (steps == "all" or level > edge) and (branch == "both" or is_cond)

    def scale(name: str, keys: Tensor) -> Tensor:
        keys = keys.clone()
        keys[:, tokens(stream, keys, name.startswith("transformer_blocks"), name.endswith("norm_added_k"))] *= GAMMA
        return keys

    plain = native.run(guidance)
    expected = native.by_hand(scale, acts, guidance=guidance)
    passes = ("cond",) if guidance == 1.0 else ("cond", "uncond")
    recipe = {"gamma": GAMMA, "blocks": "all", "steps": steps, "branch": branch, "streams": [stream]}
    given = {"schedule": FlowSchedule(STEPS, SHIFT), "passes": passes}
    with alignvid.attach(native.model, "generic", **given, **recipe):
        found = native.run(guidance)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(native.run(guidance), plain)


def test_teacache_runs_the_blocks_where_the_gain_ends(native: Native) -> None:
    ran: list[int] = []
    native.model.initialize_teacache(enable_teacache=True, num_steps=STEPS, rel_l1_thresh=math.inf)
    hook = native.model.transformer_blocks[0].register_forward_hook(lambda *_: ran.append(native.model.cnt))
    try:
        native.run()
        alone, ran = list(ran), []
        given = {"schedule": FlowSchedule(STEPS, SHIFT), "passes": ("cond",)}
        with alignvid.attach(native.model, "generic", steps=(0.0, 0.5), **given):
            native.run()
    finally:
        hook.remove()
        native.model.initialize_teacache(enable_teacache=False)
    assert len(alone) == 2  # the first step and the last
    assert len(ran) == 3  # and the first after the window


def test_magcache_runs_the_blocks_where_the_gain_ends(native: Native) -> None:
    if not hasattr(native.model, "install_magcache"):
        pytest.skip("FramePack has no MagCache; FramePack-Studio has one.")
    ran: list[int] = []
    kind = sys.modules["diffusers_helper.models.mag_cache"].MagCache
    cache = kind("Original", 64, 64, STEPS, threshold=1e9, max_consectutive_skips=STEPS)
    cache.mag_ratios = np.ones(STEPS)
    native.model.install_magcache(cache)
    hook = native.model.transformer_blocks[0].register_forward_hook(lambda *_: ran.append(cache.step_index))
    try:
        native.run()
        alone, ran = list(ran), []
        given = {"schedule": FlowSchedule(STEPS, SHIFT), "passes": ("cond",)}
        with alignvid.attach(native.model, "generic", steps=(0.0, 0.5), **given):
            native.run()
    finally:
        hook.remove()
        native.model.uninstall_magcache()
    assert len(alone) == 1  # a quarter of the steps is kept
    assert len(ran) == 2


@pytest.mark.parametrize("repository", KINDS)
def test_at_the_released_sizes_it_has_the_papers_presets(repository: str) -> None:
    with imported_from(repository, "diffusers_helper.models.hunyuan_video_packed") as (model_file,):
        with torch.device("meta"):
            model = model_file.HunyuanVideoTransformer3DModelPacked(
                num_layers=20, num_single_layers=40, rope_axes_dim=(16, 56, 56)
            )
        found = fingerprint_of(Host("transformer", model, model, family_of(model)))
    assert presets.find(found).name == "framepack:released"
    f1 = replace(found, checkpoint="lllyasviel/FramePack_F1_I2V_HY_20250503")
    assert presets.find(f1).name == "framepack-f1:released"


def test_attention_is_overheard_and_nothing_changes(native: Native) -> None:
    entropy = overheard(native.run, native.model, StepWindow.noise_above(0.9))
    assert {fact.keys for fact in entropy} == {"history+video+image+text"}
