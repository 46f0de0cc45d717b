"""A forward that is not the running step of the attached pipeline's run is not taken for one."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import nn

import alignvid
from acted import acted
from alignvid import StepWindow
from alignvid.host.clock import StepClock
from alignvid.host.transformers import Host
from alignvid.models.builtin.wan import FAMILY as WAN
from pipelines import framepack_f1, generate, hunyuan_i2v_latent_concat, wan_t2v
from registry import BUILDERS

HOST = Host("transformer", nn.Identity(), nn.Identity(), WAN)
NOT_KNOWN = r"is none of the run of the \w+ that is attached to, so that it is not known whether it lies within"


def sharing(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline with the same transformer and a scheduler of its own."""
    other = type(pipe)(**pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)})
    other.set_progress_bar_config(disable=True)
    return other


def interrupted(pipe: DiffusionPipeline, call: dict[str, Any], steps: int) -> None:
    """Run a pipeline, and interrupt it after its second step."""

    def interrupt(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return kwargs

    generate(pipe, call, num_inference_steps=steps, callback_on_step_end=interrupt)


@pytest.mark.parametrize(
    ("window", "acting"),
    [(StepWindow.noise_above(0.7), [0, 1, 2, 3, 4]), (StepWindow.fraction(0.25, 0.5), [2, 3])],
    ids=str,
)
@pytest.mark.parametrize("is_interrupted", [False, True], ids=["never run", "interrupted"])
@pytest.mark.contract(
    "step",
    done="another pipeline with its own scheduler shares the transformer, also after an interrupted run",
    guaranteed="exactly the steps of its own schedule",
)
def test_a_pipeline_that_shares_the_transformer_is_acted_on_by_its_own_schedule(window, acting, is_interrupted):
    pipe, call = wan_t2v()  # its timesteps are views: 999, 954, 899, 833, 749, 642, … in 8 steps
    other = sharing(pipe)
    alignvid.attach(pipe, "generic", steps=window)
    if is_interrupted:
        interrupted(pipe, call, 5)
    with acted(pipe.transformer) as forwards:
        generate(other, call, num_inference_steps=8, guidance_scale=1.0)
    assert [step for step, forward in enumerate(forwards) if any(forward.acted)] == acting


def test_where_its_timestep_is_no_view_a_noise_window_is_exact():
    pipe, call = BUILDERS["qwen_image"]()
    other = sharing(pipe)
    alignvid.attach(pipe, "generic", steps=StepWindow.noise_above(0.7))
    interrupted(pipe, call, 4)
    with acted(pipe.transformer) as forwards:
        generate(other, call, num_inference_steps=8)
    levels = (other.scheduler.timesteps / 1000).repeat_interleave(2).tolist()
    assert [any(forward.acted) for forward in forwards] == [level > 0.7 for level in levels]


@pytest.mark.parametrize("steps", [4, 7])
@pytest.mark.contract(
    "step",
    done="the same, where its timestep is no view of its schedule",
    guaranteed="noise windows are exact",
    refused="a fraction that cannot be known: a warning, and no gain",
)
def test_where_its_timestep_is_no_view_a_fraction_acts_at_steps_of_the_same_schedule_and_else_warns(steps):
    pipe, call = BUILDERS["qwen_image"]()
    other = sharing(pipe)
    alignvid.attach(pipe, "generic", steps=(0.25, 0.75))
    interrupted(pipe, call, 4)
    with acted(pipe.transformer) as forwards, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(other, call, num_inference_steps=steps)
    is_same = steps == 4
    assert [any(forward.acted) for forward in forwards[::2]] == [is_same and step in (1, 2) for step in range(steps)]
    assert [NOT_KNOWN] * (not is_same) == [
        NOT_KNOWN for item in caught if "it runs without a gain" in str(item.message)
    ]


@pytest.mark.parametrize("builder", [framepack_f1, hunyuan_i2v_latent_concat], ids=lambda builder: builder.__name__)
@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.contract(
    "step",
    done="an extra forward in a callback",
    guaranteed="the branches stay",
)
def test_an_extra_forward_in_a_callback_does_not_move_the_branches(builder, branch):
    pipe, call = builder()
    call = call | {"true_cfg_scale": 2.0, "num_inference_steps": 4}
    with alignvid.attach(pipe, "generic", steps=(0.0, 0.8), branch=branch), acted(pipe.transformer) as forwards:
        expected = generate(pipe, call)
        first = [any(forward.acted) for forward in forwards]
        arguments = forwards[0].arguments

        def look(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            conditional = arguments["encoder_hidden_states"].clone()  # elsewhere in memory: compared by value, once
            pipe.transformer(**arguments | {"timestep": timestep.expand(1), "encoder_hidden_states": conditional})
            return kwargs

        forwards.clear()
        assert torch.equal(generate(pipe, call, callback_on_step_end=look), expected)
    acts = [any(forward.acted) for forward in forwards]
    assert acts[2::3] == [branch == "cond"] * (len(acts) // 3)
    assert [act for index, act in enumerate(acts) if index % 3 != 2] == first


@pytest.mark.contract(
    "step",
    done="an extra forward with a text of its own, `branch` chosen",
    refused="a warning, and no gain",
)
def test_an_extra_forward_with_a_text_of_its_own_runs_without_a_gain_and_is_warned_of_once():
    pipe, call = framepack_f1()
    with alignvid.attach(pipe, "generic", steps=(0.0, 1.0), branch="cond"), acted(pipe.transformer) as forwards:
        generate(pipe, call, num_inference_steps=1)
        arguments = forwards[0].arguments | {"encoder_hidden_states": torch.randn(1, 20, 16)}
        forwards.clear()

        def look(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            pipe.transformer(**arguments | {"timestep": timestep.expand(1)})
            return kwargs

        with pytest.warns(
            UserWarning, match="Which branch .* is not known: it is not a forward of the running"
        ) as caught:
            generate(pipe, call, num_inference_steps=3, callback_on_step_end=look)
    assert [any(forward.acted) for forward in forwards] == [True, False] * 3
    assert len(caught) == 1


def test_both_passes_with_one_text_are_known_by_their_order():
    pipe, call = framepack_f1()
    texts = {
        f"negative_{name}": call[name] for name in ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
    }
    with alignvid.attach(pipe, "generic", steps=(0.0, 1.0), branch="uncond"), acted(pipe.transformer) as forwards:
        generate(pipe, call | texts, num_inference_steps=3, true_cfg_scale=2.0)
    assert [any(forward.acted) for forward in forwards] == [False, True] * 3


def test_two_threads_with_schedulers_of_their_own_are_each_at_their_own_step():
    schedulers = [FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler(shift=3.0)]
    schedulers[0].set_timesteps(4)
    schedulers[1].set_timesteps(10)
    clock = StepClock(StepWindow.fraction(0.0, 0.3), type("Pipeline", (), {"scheduler": schedulers[0]})())
    turn, read = threading.Barrier(2, timeout=60), {0: [], 1: []}

    def run(index: int) -> None:
        for step, timestep in enumerate(schedulers[index].timesteps):
            if step < 4:
                turn.wait()
            schedulers[index]._step_index = step or None
            read[index].append(clock.read(HOST, {"timestep": timestep.expand(2)}))

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [moment.step_index for moment in read[0]] == list(range(4))
    assert [moment.step_index for moment in read[1]] == list(range(10))
    assert [moment.is_in_window for moment in read[0]] == [True, True, False, False]
    assert [moment.is_in_window for moment in read[1]] == [True] * 3 + [False] * 7
    assert {moment.source for moment in read[0]} == {"own"} and {moment.source for moment in read[1]} == {"other"}
