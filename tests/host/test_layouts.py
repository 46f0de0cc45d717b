"""The batch says its own layout: guidance that ends early, that changes on the way, or that has a pass of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
from acted import acted
from pipelines import generate
from registry import BUILDERS

CHOSEN = {"cond": [False, True], "uncond": [True, False]}  # of a batch with the unconditional half first


def of_prompts(call: dict[str, Any], prompts: int) -> dict[str, Any]:
    """The call with a batch of so many different prompts."""
    texts = {name: value for name, value in call.items() if name.endswith("prompt_embeds")}
    noise = torch.Generator().manual_seed(1)
    more = {
        name: torch.cat([text] + [torch.randn(text.shape, generator=noise) for _ in range(prompts - 1)])
        for name, text in texts.items()
    }
    return call | more


@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.contract(
    "batch",
    done="SD3 with `skip_guidance_layers`, one and two prompts",
    guaranteed="the third pass is conditional",
)
def test_the_pass_of_sd3_that_skips_layers_is_conditional(prompts, branch):
    pipe, call = BUILDERS["sd35"]()
    call = of_prompts(call, prompts) | {"skip_guidance_layers": [1], "skip_layer_guidance_stop": 1.0}
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=3, skip_layer_guidance_start=0.0)
    halves = [act for act in CHOSEN[branch] for _ in range(prompts)]
    skipping = [branch == "cond"] * prompts
    assert [forward.acted for forward in forwards] == [halves, halves, skipping, halves, skipping]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.contract(
    "batch",
    done="guidance that ends early (Z-Image)",
    guaranteed="what is left is the conditional branch",
)
def test_truncated_guidance_of_z_image_leaves_the_conditional_branch(branch):
    pipe, call = BUILDERS["z_image"]()
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=4, cfg_truncation=0.3)
    conditional_first = CHOSEN[branch][::-1]
    sizes = [len(forward.acted) for forward in forwards]
    assert sizes[0] == 2 and sizes[-1] == 1
    assert [forward.acted for forward in forwards] == [conditional_first[:size] for size in sizes]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_truncated_guidance_of_lumina2_leaves_the_conditional_pass(branch):
    pipe, call = BUILDERS["lumina2"]()
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=4, cfg_trunc_ratio=0.5)
    assert [any(forward.acted) for forward in forwards] == 2 * CHOSEN[branch][::-1] + 2 * [branch == "cond"]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.parametrize("way", ["a callback that lowers it", "use_dynamic_cfg"])
@pytest.mark.parametrize("name", ["cogvideox_i2v", "consisid"])
@pytest.mark.contract(
    "batch",
    done="a guidance scale that changes on the way (CogVideoX)",
    guaranteed="the halves stay",
)
def test_guidance_that_changes_on_the_way_leaves_the_layout_of_cogvideox(name, way, branch):
    pipe, call = BUILDERS[name]()

    def lower(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 0.5
        return kwargs

    how = {"use_dynamic_cfg": True} if way == "use_dynamic_cfg" else {"callback_on_step_end": lower}
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=3, **how)
    assert [forward.acted for forward in forwards] == 3 * [CHOSEN[branch]]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_a_callback_that_ends_guidance_leaves_the_conditional_half(branch):
    """As in the callback of diffusers' documentation, which drops the negative half of the prompt."""
    pipe, call = BUILDERS["sd35"]()

    def end(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 1.0
        return {name: value[-1:] for name, value in kwargs.items()}

    texts = ["latents", "prompt_embeds", "pooled_prompt_embeds"]
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=3, callback_on_step_end=end, callback_on_step_end_tensor_inputs=texts)
    assert [forward.acted for forward in forwards] == [CHOSEN[branch], [branch == "cond"], [branch == "cond"]]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_guidance_that_begins_late_is_known_by_the_text_of_the_conditional_half(branch):
    pipe, call = BUILDERS["sd35"]()
    negative = torch.zeros_like(call["prompt_embeds"]), torch.zeros_like(call["pooled_prompt_embeds"])

    def begin(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step:
            return kwargs
        pipe._guidance_scale = 5.0
        texts = {
            name: torch.cat([empty, kwargs[name]])
            for name, empty in zip(("prompt_embeds", "pooled_prompt_embeds"), negative, strict=True)
        }
        return kwargs | texts

    texts = ["latents", "prompt_embeds", "pooled_prompt_embeds"]
    call = {name: value for name, value in call.items() if not name.startswith("negative")} | {"guidance_scale": 1.0}
    with alignvid.attach(pipe, "generic", steps="all", branch=branch), acted(pipe.transformer) as forwards:
        generate(
            pipe, call, num_inference_steps=3, callback_on_step_end=begin, callback_on_step_end_tensor_inputs=texts
        )
    assert [forward.acted for forward in forwards] == [[branch == "cond"], CHOSEN[branch], CHOSEN[branch]]


@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_a_pipeline_that_does_not_say_its_guidance_is_known_by_its_noise(prompts, scale):
    pipe, call = BUILDERS["pixart_sigma"]()
    masks = {name: value.repeat(prompts, 1) for name, value in call.items() if name.endswith("attention_mask")}
    call = of_prompts(call, prompts) | masks | {"guidance_scale": scale}
    assert not hasattr(pipe, "do_classifier_free_guidance") and not hasattr(pipe, "guidance_scale")
    with alignvid.attach(pipe, "generic", steps="all", branch="uncond") as attachment:
        generate(pipe, call, num_inference_steps=2)
    assert attachment.active_forward_count == (2 if scale > 1.0 else 0)
