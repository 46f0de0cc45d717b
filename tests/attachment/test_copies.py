"""Copies and pickles of an attached model are plain models, and the original stays attached."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, WanPipeline
from torch import Tensor, nn

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from five import BUILDERS
from pipelines import generate

RECIPE = Recipe(Scalar(1.5, {"*.*": 1.0}), BlockSet.of("all"), StepWindow.all())
FAMILIES = ["wan_t2v", "hunyuan_t2v", "sd3", "qwen_image", "z_image", "cogvideox_i2v"]


def pickled(model: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], Any]] = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}


def assert_is_plain(model: nn.Module, original: nn.Module) -> None:
    """Classes as they were made, by identity, and nothing of ours on any module."""
    for module, attached in zip(model.modules(), original.modules(), strict=False):
        assert "_alignvid_base" not in vars(type(module))
        assert not any(name.startswith("_alignvid") for name in vars(module))
        assert module is not attached
    assert list(model.state_dict()) == list(original.state_dict())


def run_with(pipe: DiffusionPipeline, call: dict[str, Any], transformer: nn.Module) -> Tensor:
    other = type(pipe)(**pipe.components | {"transformer": transformer})
    other.set_progress_bar_config(disable=True)
    return generate(other, call)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.contract(
    "copies",
    done="`deepcopy`, `torch.save`, pickle of an attached transformer",
    guaranteed="the plain model; the original stays attached",
)
def test_a_copy_is_the_plain_model_and_the_original_stays_attached(family, how):
    pipe, call = BUILDERS[family]()
    call = call | {"num_inference_steps": 1}
    plain = generate(pipe, call)
    attachment = alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call)
    copied = COPIES[how](pipe.transformer)
    assert_is_plain(copied, pipe.transformer)
    assert torch.equal(generate(pipe, call), expected)
    attachment.detach()
    assert torch.equal(run_with(pipe, call, copied), plain)
    assert not torch.equal(expected, plain)


@pytest.mark.contract(
    "copies",
    done="`deepcopy` of an attached pipeline",
    guaranteed="attached as the original is, and detaches alone",
)
def test_a_copy_of_a_pipeline_is_attached_as_the_original_and_detaches_alone():
    pipe, call = BUILDERS["wan_t2v"]()
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        attached = generate(pipe, call)
        other = copy.deepcopy(pipe)
        assert torch.equal(generate(other, call), attached)
        alignvid.detach(other)
        assert torch.equal(generate(other, call), plain)
        with alignvid.attach(other, RECIPE):
            assert torch.equal(generate(other, call), attached)
        untouched = copy.deepcopy(pipe)
        alignvid.detach(untouched)  # before its first forward
        assert torch.equal(generate(untouched, call), plain)
    assert torch.equal(generate(pipe, call), plain)


@pytest.mark.contract(
    "copies",
    done="`deepcopy(pipe.transformer)`",
    guaranteed="no pipeline and no other transformer is copied",
)
def test_a_deep_copy_of_a_transformer_copies_no_pipeline_and_no_other_transformer():
    pipe, _ = BUILDERS["wan_t2v"]()
    alignvid.attach(pipe, RECIPE)
    copied: dict[int, Any] = {}
    copy.deepcopy(pipe.transformer, copied)
    assert id(pipe) not in copied and id(pipe.vae) not in copied and id(pipe.scheduler) not in copied


def test_a_shallow_copy_has_no_gate():
    pipe, _ = BUILDERS["wan_t2v"]()
    plain_class = type(pipe.transformer)
    with alignvid.attach(pipe, RECIPE):
        shallow = copy.copy(pipe.transformer)
    assert type(shallow) is plain_class
    assert not any(name.startswith("_alignvid") for name in vars(shallow))


def test_what_a_spawned_process_would_be_sent_is_the_plain_model():
    pipe, _ = BUILDERS["wan_t2v"]()
    with alignvid.attach(pipe, RECIPE):
        message = multiprocessing.get_context("spawn").reducer.ForkingPickler.dumps(pipe.transformer)
    assert_is_plain(pickle.loads(message), pipe.transformer)


def test_from_pipe_of_an_attached_pipeline_shares_its_transformer():
    pipe, call = BUILDERS["wan_t2v"]()
    alignvid.attach(pipe, RECIPE)
    other = WanPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    assert other.transformer is pipe.transformer
    assert torch.equal(generate(other, call), generate(pipe, call))


def test_an_attached_class_equals_its_own_and_no_other():
    pipe, _ = BUILDERS["wan_t2v"]()
    plain, other = type(pipe.transformer), type(BUILDERS["hunyuan_t2v"]()[0].transformer)
    alignvid.attach(pipe, RECIPE)
    attached = type(pipe.transformer)
    assert attached == plain and plain == attached and attached is not plain
    assert attached != other and attached != "WanTransformer3DModel"
    assert {plain: "found"}[attached] == "found"
