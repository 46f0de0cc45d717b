"""What diffusers' own objects say of a run."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import ClassifierFreeGuidance

from alignvid.host.diffusers import DIFFUSERS


def guided(*, has_begun: bool) -> SimpleNamespace:
    """A modular pipeline, as far as its guider."""
    guider = ClassifierFreeGuidance(guidance_scale=4.0)
    if has_begun:
        guider.set_state(step=0, num_inference_steps=4, timestep=torch.tensor(1000.0))
    return SimpleNamespace(guider=guider)


def test_a_guider_names_the_passes_of_a_step_and_no_further_one():
    pipeline = guided(has_begun=True)
    names = [DIFFUSERS.pass_name(pipeline, "transformer", order) for order in range(3)]
    assert names == ["pred_cond", "pred_uncond", None]


@pytest.mark.parametrize("pipeline", [guided(has_begun=False), SimpleNamespace()], ids=["no step yet", "no guider"])
def test_without_a_step_or_a_guider_no_pass_has_a_name(pipeline):
    assert DIFFUSERS.pass_name(pipeline, "transformer", 0) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"do_classifier_free_guidance": True, "guidance_scale": 0.0}, True),
        ({"do_classifier_free_guidance": False, "guidance_scale": 5.0}, False),
        ({"guidance_scale": 1.0}, False),
        ({"guidance_scale": 1.5}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_pipeline_says_whether_it_is_guided_or_leaves_it_open(fields, says):
    assert DIFFUSERS.is_guided(SimpleNamespace(**fields)) is says
