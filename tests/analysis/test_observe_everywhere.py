"""Observing every tiny pipeline of the model table: it gives facts, or says why there are none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import alignvid
from alignvid.analysis.observe import observe
from alignvid.errors import ObservationError
from pipelines import generate
from registry import BUILDERS

COMPILED = """
import sys
import torchvision_beside_cpu_torch
from alignvid.analysis.observe import observe
from alignvid.errors import ObservationError
from pipelines import generate
from registry import BUILDERS

pipe, call = BUILDERS[sys.argv[1]]()
try:
    with observe(pipe, blocks=[0]):
        generate(pipe, call)
except ObservationError as error:
    print(error)
"""
PARTS = "softmax over [0-9]+ keys, where its key norms gave other ones"
REFUSED = {
    "flux2_klein_kv": PARTS,
    "mochi": PARTS,
    "qwen_image21": PARTS,
    "sana_wm_refiner": PARTS,
}
"""Pipelines that cannot be observed, and what is said of them."""
FLEX = ("anyflow_far", "wan_animate2")
"""Their attention is compiled code, which type checks cannot be traced through."""
QUICK = ("prx", "nucleus_image", "motif_i2v", "mochi", "qwen_image_edit_reading")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS if name not in FLEX],
)
def test_a_pipeline_is_observed_or_refused_with_the_reason(name):
    pipe, call = BUILDERS[name]()
    if name in REFUSED:
        with pytest.raises(ObservationError, match=REFUSED[name]), observe(pipe, blocks=[0]):
            generate(pipe, call)
        return
    with observe(pipe, blocks=[0]) as trace:
        generate(pipe, call)
    assert not trace.problems
    for step in {fact.step for fact in trace.facts}:
        assert trace.where(step=step).mean("mass").values.size


@pytest.mark.slow
@pytest.mark.parametrize("name", FLEX)
def test_flex_attention_is_refused_with_the_reason(name):
    command = [sys.executable, "-c", COMPILED, name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "asked no softmax of torch's scaled_dot_product_attention" in told.stdout


def test_a_neutral_norm_is_there_while_an_attention_without_one_is_observed_and_changes_nothing():
    pipe, call = BUILDERS["sd3"]()
    attention, plain = pipe.transformer.transformer_blocks[0].attn, generate(pipe, call)
    assert attention.norm_k is None
    with observe(pipe, blocks=[0]) as trace:
        assert attention.norm_k is not None
        assert torch.equal(generate(pipe, call), plain)
    assert attention.norm_k is None
    assert {fact.keys for fact in trace.facts} == {"text", "video", "video+text"}


def test_an_attachment_made_within_an_observation_acts_on_the_norm_that_it_finds():
    pipe, call = BUILDERS["sd3"]()
    attention = pipe.transformer.transformer_blocks[0].attn
    with alignvid.attach(pipe):
        attached = generate(pipe, call)
    with observe(pipe, blocks=[0]), alignvid.attach(pipe):
        assert torch.equal(generate(pipe, call), attached)
    assert attention.norm_k is None
