"""Exactly the chosen blocks × steps × CFG branches act, counted without alignvid.

A hook on every key norm compares what leaves the norm with an RMS norm written out here; a hook on the transformer
numbers the forwards and finds the CFG branch by the embeddings that are passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchHeunDiscreteScheduler,
    WanVideoToVideoPipeline,
)
from torch import Tensor

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from image_pipelines import sana_sprint
from pipelines import (
    flow_match_euler,
    framepack_f1,
    framepack_v1,
    framepack_v1_three_sections,
    generate,
    hunyuan_i2v_latent_concat,
    hunyuan_t2v,
    unipc,
    wan22_i2v,
    wan22_ti2v_5b,
    wan_i2v,
    wan_t2v,
)
from video_pipelines.ltx_siblings import ltx_long_multi_prompt
from video_pipelines.wan_like import helios_pyramid

RELEASED_WINDOW = StepWindow.noise_above(0.9)
PAPERS_WINDOW = StepWindow.fraction(0.0, 0.3)


@dataclass
class Forward:
    """One forward of a transformer, as seen from outside."""

    transformer: str
    timestep: float
    is_cond: bool
    acted: set[str] = field(default_factory=set)
    """Names of the norms whose output was not what the norm computes."""


@contextmanager
def watched(pipe: DiffusionPipeline, call: dict[str, Any]) -> Iterator[list[Forward]]:
    """Every forward of the pipeline's transformers while the context is open."""
    forwards: list[Forward] = []
    hooks = []

    def begin(host: str, arguments: dict[str, Any]) -> None:
        embeddings = arguments["encoder_hidden_states"]
        is_cond = embeddings.shape == call["prompt_embeds"].shape and torch.equal(embeddings, call["prompt_embeds"])
        forwards.append(Forward(host, float(arguments["timestep"].max()), is_cond))

    def compare(name: str, norm: Any, hidden: Tensor, output: Tensor) -> None:
        plain = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight
        if not torch.allclose(output, plain, rtol=1e-3):
            forwards[-1].acted.add(name)

    for host in ("transformer", "transformer_2"):
        if (transformer := pipe.components.get(host)) is not None:
            hooks.append(
                transformer.register_forward_pre_hook(
                    lambda _, args, kwargs, host=host: begin(host, kwargs), with_kwargs=True
                )
            )
            for name, norm in transformer.named_modules():
                if name.endswith(("norm_k", "norm_added_k")):
                    hooks.append(
                        norm.register_forward_hook(
                            lambda norm, args, output, name=name: compare(name, norm, args[0], output)
                        )
                    )
    yield forwards
    for hook in hooks:
        hook.remove()


def active(forwards: list[Forward]) -> list[bool]:
    return [bool(forward.acted) for forward in forwards]


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("window", [RELEASED_WINDOW, PAPERS_WINDOW], ids=["t>900", "first 30 %"])
def test_forty_steps_act_at_the_chosen_ones_in_the_chosen_blocks(shift, window):
    pipe, call = wan_t2v()
    pipe.scheduler = unipc(flow_shift=shift)
    recipe = Recipe(Scalar(1.35, {"cross.text": 1.0}), BlockSet.of([0, 2]), window)
    with alignvid.attach(pipe, recipe) as attachment, watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=40)
    timesteps = pipe.scheduler.timesteps.tolist()
    is_chosen = [t > 900 for t in timesteps] if window is RELEASED_WINDOW else [step < 12 for step in range(40)]
    assert len(forwards) == 2 * 40
    assert active(forwards) == [chosen for chosen in is_chosen for _ in ("cond", "uncond")]
    assert {name for forward in forwards for name in forward.acted} == {
        "blocks.0.attn2.norm_k",
        "blocks.2.attn2.norm_k",
    }
    assert attachment.active_forward_count == sum(active(forwards))
    assert attachment.acted_count == sum(len(forward.acted) for forward in forwards)


@pytest.mark.parametrize(("shift", "steps"), [(1.0, 4), (3.0, 10), (5.0, 15), (8.0, 19)])
def test_the_released_window_is_longer_the_stronger_the_flow_shift(shift, steps):
    """t > 900 is the first 1 - 0.9 / (s - 0.9 (s - 1)) of the steps: 10 %, 25 %, 36 %, 47 %."""
    pipe, call = wan_t2v()
    pipe.scheduler = unipc(flow_shift=shift)
    with alignvid.attach(pipe, "generic", steps=RELEASED_WINDOW) as attachment:
        generate(pipe, call, num_inference_steps=40, guidance_scale=1.0)
    assert attachment.active_forward_count == steps


@pytest.mark.parametrize(
    ("window", "shift", "acting"),
    [
        (RELEASED_WINDOW, 1.0, [True, False, False, False]),
        (RELEASED_WINDOW, 8.0, [True, True, False, False]),
        (PAPERS_WINDOW, 1.0, [True, True, False, False]),
        (StepWindow.noise(0.55, 0.6), 1.0, [False, False, True, False]),  # between 750 and 500: the nearer one
        (StepWindow.fraction(0.9, 1.0), 1.0, [False, False, False, True]),
        (StepWindow.none(), 1.0, [False, False, False, False]),
    ],
    ids=str,
)
def test_a_four_step_model_without_guidance_has_a_step_unless_none_is_asked_for(window, shift, acting):
    pipe, call = wan_i2v()
    pipe.scheduler = unipc(flow_shift=shift)  # shift 1: timesteps 999, 750, 500, 250
    with alignvid.attach(pipe, "generic", steps=window) as attachment, watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=4, guidance_scale=1.0)
    assert active(forwards) == acting
    assert attachment.active_forward_count == sum(acting)


@pytest.mark.parametrize(
    "window",
    [StepWindow.noise_above(0.5), StepWindow.noise(0.3, 0.8), StepWindow.noise_above(0.9)],
    ids=["both transformers", "the low-noise transformer", "the high-noise transformer"],
)
def test_two_transformers_share_one_noise_window(window):
    pipe, call = wan22_i2v()
    with alignvid.attach(pipe, "generic", steps=window) as attachment, watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=12)
    assert [f.transformer for f in forwards] == [
        "transformer" if f.timestep >= 875 else "transformer_2" for f in forwards
    ]
    assert active(forwards) == [window.start < f.timestep / 1000 <= window.stop for f in forwards]
    assert 0 < attachment.active_forward_count == sum(active(forwards)) < len(forwards)


def test_a_fraction_of_the_steps_is_counted_over_both_transformers():
    pipe, call = wan22_i2v()
    with alignvid.attach(pipe, "generic", steps=(0.25, 0.75)), watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=12, guidance_scale=1.0)
    assert active(forwards) == [3 <= step < 9 for step in range(12)]
    assert {f.transformer for f in forwards if f.acted} == {"transformer", "transformer_2"}


def test_each_section_of_framepack_restarts_the_window():
    pipe, call = framepack_v1_three_sections()
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.25)) as attachment, watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=8)
    assert active(forwards) == 3 * [step < 2 for step in range(8)]
    assert attachment.acted_count == 3 * 2 * 4  # sections, steps, blocks 0 and 1 of both stacks


WITH_GUIDANCE = {
    # pipeline: what turns its second pass on
    wan_t2v: {"guidance_scale": 6.0},  # announces its passes, with the step
    wan_i2v: {"guidance_scale": 6.0},  # announces its passes
    wan22_i2v: {"guidance_scale": 6.0},
    hunyuan_t2v: {"true_cfg_scale": 2.0},  # announces its passes
    hunyuan_i2v_latent_concat: {"true_cfg_scale": 2.0},  # announces nothing
    framepack_f1: {"true_cfg_scale": 2.0},  # announces nothing
    framepack_v1_three_sections: {"true_cfg_scale": 2.0},
}


@pytest.mark.parametrize("branch", ["both", "cond", "uncond"])
@pytest.mark.parametrize("builder", WITH_GUIDANCE, ids=lambda builder: builder.__name__)
def test_in_two_pass_guidance_only_the_chosen_branch_acts(builder, branch):
    pipe, call = builder()
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.5), branch=branch), watched(pipe, call) as forwards:
        generate(pipe, call, **WITH_GUIDANCE[builder], num_inference_steps=4)
    sections = len(forwards) // 8
    assert [f.is_cond for f in forwards] == 4 * sections * [True, False]
    is_chosen = [branch in ("both", "cond"), branch in ("both", "uncond")]
    assert active(forwards) == sections * (2 * is_chosen + 4 * [False])


@pytest.mark.parametrize("builder", [wan_t2v, wan_i2v, framepack_v1], ids=lambda builder: builder.__name__)
def test_without_guidance_the_only_pass_is_the_conditional_one(builder):
    pipe, call = builder()
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.5), branch="cond"), watched(pipe, call) as forwards:
        generate(pipe, call, guidance_scale=1.0, num_inference_steps=4)
    assert active(forwards) == [True, True, False, False]


@pytest.mark.parametrize("prompts", [1, 2])
def test_in_batched_guidance_the_chosen_half_acts(prompts):
    pipe, _ = wan_t2v()
    transformer = pipe.transformer
    arguments = {
        "hidden_states": torch.randn(2 * prompts, 16, 3, 2, 4),
        "timestep": torch.full((2 * prompts,), 950.0),
        "encoder_hidden_states": torch.randn(2 * prompts, 24, 32),
    }
    samples = {}
    with torch.no_grad():
        samples["plain"] = transformer(**arguments).sample
        for branch in ("both", "cond", "uncond"):
            with (
                alignvid.attach(transformer, "generic", branch=branch, schedule=[950.0]) as attachment,
                transformer.cache_context("cond_uncond"),
            ):
                samples[branch] = transformer(**arguments).sample
                assert attachment.active_forward_count == 1
    plain_uncond, plain_cond = samples["plain"].chunk(2)
    acted_uncond, acted_cond = samples["both"].chunk(2)
    assert torch.equal(samples["cond"], torch.cat([plain_uncond, acted_cond]))
    assert torch.equal(samples["uncond"], torch.cat([acted_uncond, plain_cond]))
    assert not torch.equal(plain_cond, acted_cond)


@pytest.mark.parametrize("builder", [wan_t2v, wan_i2v], ids=lambda builder: builder.__name__)
def test_two_prompts_in_a_batch_get_what_each_gets_alone(builder):
    pipe, call = builder()
    prompts, latents = torch.randn(2, *call["prompt_embeds"].shape[1:]), torch.randn(2, 16, 3, 2, 4)
    negative = call["negative_prompt_embeds"]
    with alignvid.attach(pipe, "generic", branch="cond"):
        alone = [generate(pipe, call, prompt_embeds=prompts[i : i + 1], latents=latents[i : i + 1]) for i in range(2)]
    both = call | {"prompt_embeds": prompts, "negative_prompt_embeds": negative.repeat(2, 1, 1), "latents": latents}
    with alignvid.attach(pipe, "generic", branch="cond"), watched(pipe, both) as forwards:
        together = generate(pipe, both)
    assert active(forwards) == [True, False] + 4 * [False]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0.0)  # a batch sums in another order


@pytest.mark.parametrize(
    ("window", "timestep", "acts"),
    [
        (RELEASED_WINDOW, 950.0, True),
        (RELEASED_WINDOW, 900.0, False),
        (PAPERS_WINDOW, 701.0, True),  # fraction of steps done = 1 - noise level
        (PAPERS_WINDOW, 700.0, False),
        (StepWindow.all(), 1.0, True),
        (StepWindow.none(), 1000.0, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_positional", [False, True], ids=["by name", "by position"])
def test_a_bare_transformer_reads_the_timestep_that_it_is_given(window, timestep, acts, is_positional):
    pipe, _ = wan_t2v()
    arguments = {
        "hidden_states": torch.randn(1, 16, 3, 2, 4),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": torch.randn(1, 24, 32),
    }
    warns = pytest.warns(UserWarning, match="taken as 1 - noise level") if window is PAPERS_WINDOW else nullcontext()
    with torch.no_grad(), warns, alignvid.attach(pipe.transformer, "generic", steps=window) as attachment:
        pipe.transformer(*arguments.values()) if is_positional else pipe.transformer(**arguments)
    assert attachment.active_forward_count == acts


def test_a_transformer_called_without_a_timestep_is_an_error_that_says_so():
    pipe, _ = wan_t2v()
    alignvid.attach(pipe.transformer, "generic")
    with pytest.raises(
        alignvid.errors.ClockError, match=r"without a timestep; pass timestep=…, or attach to the pipeline"
    ):
        pipe.transformer(hidden_states=torch.randn(1, 16, 3, 2, 4), encoder_hidden_states=torch.randn(1, 24, 32))


def test_timesteps_per_token_are_read_at_the_noisiest_token():
    pipe, call = wan22_ti2v_5b()
    with alignvid.attach(pipe.transformer, "generic", steps=RELEASED_WINDOW), watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=12)
    assert active(forwards) == [f.timestep > 900 for f in forwards]
    assert any(active(forwards))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # DPM-Solver on NumPy 2
@pytest.mark.parametrize(
    "scheduler",
    [
        unipc(flow_shift=3.0),
        flow_match_euler(shift=3.0),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        FlowMatchHeunDiscreteScheduler(shift=3.0),  # two forwards per step
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_a_scheduler_put_in_after_attaching_is_followed(scheduler):
    pipe, call = wan_t2v()
    with alignvid.attach(pipe, "generic", steps=RELEASED_WINDOW), watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=5)
        forwards.clear()
        pipe.scheduler = scheduler
        generate(pipe, call, num_inference_steps=12)
    assert active(forwards) == [f.timestep > 900 for f in forwards]
    assert any(active(forwards)) and not all(active(forwards))


def test_video_to_video_counts_the_steps_that_it_runs():
    t2v, call = wan_t2v()
    parts = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
    pipe = WanVideoToVideoPipeline(**{name: t2v.components[name] for name in parts})
    pipe.set_progress_bar_config(disable=True)
    del call["num_frames"]
    video = list(torch.rand(9, 3, 16, 32))
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.5)), watched(pipe, call) as forwards:
        generate(pipe, call, video=video, strength=0.5, num_inference_steps=8, guidance_scale=1.0)
    assert active(forwards) == [True, True, False, False]


def test_a_second_run_starts_the_window_anew_even_with_other_steps_or_after_an_interruption():
    pipe, call = framepack_f1()

    def interrupt(*_: Any) -> dict:
        raise KeyboardInterrupt

    with alignvid.attach(pipe, "generic", steps=(0.0, 0.5), branch="uncond"), watched(pipe, call) as forwards:
        with pytest.raises(KeyboardInterrupt):
            generate(pipe, call, num_inference_steps=4, true_cfg_scale=2.0, callback_on_step_end=interrupt)
        for steps in (1, 2, 6):
            forwards.clear()
            generate(pipe, call, num_inference_steps=steps, true_cfg_scale=2.0)
            active_steps = (steps + 1) // 2
            assert active(forwards) == active_steps * [False, True] + (steps - active_steps) * [False, False]


def test_the_attachment_says_how_often_it_acted():
    pipe, call = wan_i2v()
    recipe = Recipe(
        Scalar(1.35, {"cross.text": 2.0, "cross.image": 1.0}), BlockSet.of([0, 2]), StepWindow.of((0.0, 0.5))
    )
    with alignvid.attach(pipe, recipe) as attachment, watched(pipe, call) as forwards:
        generate(pipe, call, num_inference_steps=6)
    sites = {name.rpartition(".")[0] for forward in forwards for name in forward.acted}
    assert sites == {"blocks.0.attn2", "blocks.2.attn2"}
    assert attachment.site_count == 2
    assert attachment.forward_count == len(forwards) == 12
    assert attachment.active_forward_count == sum(active(forwards)) == 6
    assert attachment.acted_count == 2 * 6
    assert "acted 12 times: 2 sites in 6 of 12 forwards" in str(attachment)


@pytest.mark.parametrize("builder", [sana_sprint, ltx_long_multi_prompt, helios_pyramid])
def test_a_window_of_late_steps_acts_in_the_last_step_that_runs(builder):
    pipe, call = builder()
    levels: list[float] = []
    with alignvid.attach(pipe, steps=(0.95, 1.0)) as attachment:
        handle = pipe.transformer.register_forward_pre_hook(
            lambda _, args, kwargs: levels.append(float(kwargs["timestep"].max())), with_kwargs=True
        )
        generate(pipe, call)
        handle.remove()
    assert attachment.active_forward_count == levels.count(min(levels))
