"""The distilled miniature: Euler's method at its own noise levels, a LoRA that is added, and no other step count."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import alignvid
from alignvid.errors import InputError
from alignvid.miniature import load_pipeline, lora_folder, weights_folder
from alignvid.miniature.architecture import build_scheduler
from alignvid.miniature.distilled import STEPS, add_low_rank, distilled, four_step_scheduler
from alignvid.miniature.evaluate import Variant, evaluate, trials
from alignvid.miniature.scenes import DEVELOPMENT

SHOWN_OF_SIX = 3
"""Development scenes that the weights of 2026-11-30 show at noise seed 0 at the least."""


def test_the_scheduler_is_eulers_method() -> None:
    scheduler = four_step_scheduler(build_scheduler())
    scheduler.set_timesteps(STEPS)
    latents = expected = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for (now, then), timestep in zip(pairwise(scheduler.sigmas), scheduler.timesteps, strict=True):
        direction = torch.sin(latents + now)
        expected = expected + (then - now) * torch.sin(expected + now)
        latents = scheduler.step(direction, timestep, latents, return_dict=False)[0]
        torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"num_inference_steps": 10}, {}, {"sigmas": [1.0, 0.9, 0.7, 0.5]}], ids=str)
def test_any_other_steps_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="runs in 4 steps"):
        four_step_scheduler(build_scheduler()).set_timesteps(**settings)


def test_a_lora_is_added_to_the_weights_of_the_blocks() -> None:
    transformer = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 2)]), "proj_out": nn.Linear(3, 2)})
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    down, up = torch.randn(1, 3), torch.randn(2, 1)
    lora = {"transformer.blocks.0.lora_A.weight": down, "transformer.blocks.0.lora_B.weight": up}
    add_low_rank(transformer, lora)
    after = transformer.state_dict()
    torch.testing.assert_close(after["blocks.0.weight"], before["blocks.0.weight"] + up @ down)
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "blocks.0.weight")
    with pytest.raises(InputError, match="is for another transformer"):
        add_low_rank(nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])}), lora)


def test_the_shipped_one_follows_prompts_in_four_steps_finds_its_preset_and_refuses_ten() -> None:
    pipeline, cases = load_pipeline(lora=lora_folder()), trials(DEVELOPMENT, 6)
    assert alignvid.preset_for(pipeline).name == "miniature-4-step:calibrated"
    clips = evaluate(pipeline, cases, Variant("distilled", None, steps=STEPS), noise_seed=0)
    assert sum(clip.edit_shown for clip in clips) >= SHOWN_OF_SIX
    with pytest.raises(InputError, match="runs in 4 steps, and was given 10 steps"):
        evaluate(pipeline, cases[:1], Variant("distilled", None, steps=10), noise_seed=0)


def test_a_folder_without_a_lora_is_refused() -> None:
    with pytest.raises(InputError, match=r"holds no pytorch_lora_weights\.safetensors"):
        distilled(load_pipeline(), weights_folder())


def test_the_weights_are_small_and_no_pickle() -> None:
    files = list(lora_folder().iterdir())
    assert [file.suffix for file in files] == [".safetensors"] and files[0].stat().st_size < 0.8e6
