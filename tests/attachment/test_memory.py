"""Who keeps whom alive: a model holds what is attached to it, and nothing else holds the model."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import alignvid
from alignvid import BlockSet, Energy, Recipe, Scalar, StepWindow
from five import BUILDERS
from pipelines import generate

RECIPES = {
    "scalar": Recipe(Scalar(1.5, {"*.*": 1.0}), BlockSet.of("all"), StepWindow.all()),
    "energy": Recipe(Energy(powers={"*.*": 1.0}), BlockSet.of("all"), StepWindow.all()),
}
FAMILIES = ["wan_i2v", "hunyuan_t2v", "sd35", "qwen_image", "z_image", "cogvideox_i2v"]


def watched(pipe: Any) -> list[weakref.ref[Any]]:
    return [weakref.ref(pipe), weakref.ref(pipe.transformer), weakref.ref(next(pipe.transformer.parameters()))]


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.contract(
    "copies",
    done="an attachment is detached and kept",
    guaranteed="no model is kept alive; its counts are still there",
)
def test_a_detached_attachment_keeps_no_model_alive_and_still_says_what_it_did(family, kind):
    pipe, call = BUILDERS[family]()
    attachment = alignvid.attach(pipe, RECIPES[kind])
    generate(pipe, call | {"num_inference_steps": 1})
    before = attachment.to_dict()
    attachment.detach()
    things = watched(pipe)
    del pipe
    gc.collect()
    assert [thing() for thing in things] == [None, None, None]
    assert attachment.to_dict() == before and before["acted"] > 0
    assert f"(detached): transformer blocks {next(iter(before['blocks']['transformer'].values()))}" in str(attachment)


@pytest.mark.parametrize("is_kept", [True, False], ids=["attachment kept", "attachment dropped"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.contract(
    "copies",
    done="`del pipe` of an attached pipeline",
    guaranteed="freed by a garbage collection",
)
def test_an_attached_pipeline_is_freed_when_it_is_deleted(family, is_kept):
    pipe, call = BUILDERS[family]()
    kept = [alignvid.attach(pipe, RECIPES["scalar"])]
    generate(pipe, call | {"num_inference_steps": 1})
    if not is_kept:
        kept.clear()
    things = watched(pipe)
    del pipe
    gc.collect()
    assert [thing() for thing in things] == [None, None, None]
    for attachment in kept:
        assert not attachment.is_attached and attachment.acted_count > 0
        assert "(detached)" in str(attachment)
        attachment.detach()
