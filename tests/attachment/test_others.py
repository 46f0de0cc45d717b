"""A transformer that is put into a pipeline after attaching runs without a gain, and that is said when it runs."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.errors import ContractWarning
from pipelines import generate, wan_t2v
from registry import BUILDERS

RECIPE = Recipe(Scalar(1.5, {"*.*": 1.0}), BlockSet.of("all"), StepWindow.all())
SAID = "does not act in this run: it runs another"
LATE = "acts no longer: the pipeline's `transformer` is another one than when"
FAMILIES = ("wan_i2v", "hunyuan_t2v", "framepack_v1", "sd3", "z_image", "qwen_image", "cogvideox_i2v")


@pytest.mark.parametrize("has_run", [True, False], ids=["after a run", "before the first run"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.contract(
    "hooks",
    done="`pipe.transformer = other`, before or after a run",
    guaranteed="put back, the first one acts as before; detaching leaves the pipeline as if never attached",
    refused="a warning in the next run; also in `print`, at the next attach and on detaching",
)
def test_another_transformer_is_said_in_the_next_run_once(name, has_run):
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": 1}
    plain = generate(pipe, call)
    kind, held = type(pipe), set(vars(pipe))
    attachment = alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call) if has_run else None
    first, pipe.transformer = pipe.transformer, copy.deepcopy(pipe.transformer)
    with pytest.warns(ContractWarning, match=SAID) as caught:
        assert torch.equal(generate(pipe, call), plain)
    assert len(caught) == 1 and SAID in attachment.warnings[0]
    assert not pipe.transformer._forward_pre_hooks
    generate(pipe, call)  # said once
    other, pipe.transformer = pipe.transformer, first
    found = generate(pipe, call)
    assert not torch.equal(found, plain) and (expected is None or torch.equal(found, expected))
    attachment.detach()
    assert type(pipe) is kind and set(vars(pipe)) == held
    assert not other._forward_pre_hooks


def test_another_transformer_of_a_modular_pipeline_is_said():
    pipe, call = BUILDERS["ideogram4_modular"]()
    alignvid.attach(pipe, RECIPE)
    generate(pipe, call)
    pipe.update_components(transformer=copy.deepcopy(pipe.transformer))
    with pytest.warns(ContractWarning, match=SAID):
        generate(pipe, call)
    with pytest.warns(ContractWarning, match=LATE):
        alignvid.detach(pipe)


def test_a_pipeline_that_is_made_from_an_attached_one_is_of_the_plain_class():
    pipe, call = wan_t2v()
    kind = type(pipe)
    with alignvid.attach(pipe, RECIPE):
        other = type(pipe)(**pipe.components)
        shared = type(pipe).from_pipe(pipe)
        assert isinstance(pipe, kind) and type(pipe).__name__ == kind.__name__
    assert type(other) is type(shared) is type(pipe) is kind
    generate(other, call, num_inference_steps=1)


def test_a_second_expert_that_comes_after_attaching_is_said():
    pipe, call = wan_t2v()
    second = copy.deepcopy(pipe.transformer)
    pipe.register_to_config(boundary_ratio=0.9)
    alignvid.attach(pipe, RECIPE)
    pipe.transformer_2 = second
    with pytest.warns(ContractWarning, match=SAID):
        generate(pipe, call, num_inference_steps=4)
    alignvid.detach(pipe)


def test_a_transformer_that_was_taken_out_is_freed_and_its_attachment_says_so():
    pipe, call = wan_t2v()
    call = call | {"num_inference_steps": 1}
    kind = type(pipe)
    attachment = alignvid.attach(pipe, RECIPE)
    generate(pipe, call)
    taken_out = weakref.ref(pipe.transformer)
    pipe.transformer = copy.deepcopy(pipe.transformer)
    gc.collect()
    assert taken_out() is None
    assert "acts no longer: the transformer that the gain was attached to is in the pipeline no longer" in str(
        attachment
    )
    with pytest.warns(ContractWarning, match=SAID):
        generate(pipe, call)
    with pytest.warns(ContractWarning, match="is in the pipeline no longer"):
        attachment.detach()
    attachment.detach()
    assert type(pipe) is kind and "(detached)" in str(attachment)


def test_attaching_anew_to_the_other_transformer_is_no_other_one():
    pipe, call = wan_t2v()
    plain = generate(pipe, call)
    alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call)
    pipe.transformer = copy.deepcopy(pipe.transformer)
    gc.collect()
    with alignvid.attach(pipe, RECIPE):
        assert torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), plain)


@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
def test_the_same_transformer_in_a_wrapper_of_torch_compile_is_no_other_one():
    pipe, call = wan_t2v()
    alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call)
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    assert torch.allclose(generate(pipe, call), expected, atol=1e-5)
    alignvid.detach(pipe)


@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.parametrize("is_wrapped", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_another_transformer_that_is_compiled_is_said(is_wrapped):
    pipe, call = wan_t2v()
    alignvid.attach(pipe, RECIPE)
    other: Any = copy.deepcopy(pipe.transformer)
    if is_wrapped:
        other = torch.compile(other, backend="eager")
    else:
        other.compile(backend="eager")
    pipe.transformer = other
    with pytest.warns(ContractWarning, match=SAID):
        generate(pipe, call, num_inference_steps=1)
    with pytest.warns(ContractWarning, match="another one than when|in the pipeline no longer"):
        alignvid.detach(pipe)


def test_another_transformer_is_pickled_and_copied_before_it_runs():
    pipe, call = wan_t2v()
    alignvid.attach(pipe, RECIPE)
    pipe.transformer = copy.deepcopy(pipe.transformer)
    again = pickle.loads(pickle.dumps(pipe.transformer))
    alone = copy.deepcopy(pipe.transformer)
    with pytest.warns(ContractWarning, match="another one than when|in the pipeline no longer"):
        alignvid.detach(pipe)
    for copied in (again, alone):
        pipe.transformer = copied
        generate(pipe, call, num_inference_steps=1)
