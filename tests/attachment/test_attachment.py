from __future__ import annotations

import json

import pytest
import torch

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from pipelines import framepack_v1, generate, wan22_i2v, wan_i2v


def test_printing_it_tells_blocks_steps_streams_gains_and_how_often_it_acted():
    pipe, call = wan_i2v()
    recipe = Recipe(
        Scalar(1.5, {"cross.text": 2.0, "cross.image": 1.0}), BlockSet.of([0, 2]), StepWindow.noise_above(0.9)
    )
    with alignvid.attach(pipe, recipe) as attachment:
        generate(pipe, call, num_inference_steps=10)
        said = str(attachment)
        assert repr(attachment) == f"<{said}>"
        assert set(attachment.actions) == {"cross.text x2.25", "cross.image x1.5"}
    assert "(attached)" in said
    assert "transformer blocks 0,2 of `blocks`" in said
    assert "noise level > 0.9" in said
    assert "CFG branch both" in said
    assert "cross.text x2.25" in said
    assert "cross.image x1.5" in said
    assert "acted 12 times: 2 sites in 6 of 20 forwards" in said
    assert "(detached)" in str(attachment)
    assert not attachment.placements  # they would keep the model alive


def test_it_tells_the_blocks_of_every_stack_and_transformer():
    pipe, _ = wan22_i2v()
    with alignvid.attach(pipe, "generic") as attachment:
        assert attachment.blocks("transformer") == {"blocks": "0-1"}
        assert attachment.blocks("transformer_2") == {"blocks": "0-1"}
        assert attachment.site_count == 4
    pipe, _ = framepack_v1()
    with alignvid.attach(pipe, "generic", blocks={"single_transformer_blocks": [1, 2]}) as attachment:
        assert attachment.blocks("transformer") == {"single_transformer_blocks": "1-2"}


def test_its_record_holds_what_is_needed_to_attach_the_same_again():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, "generic", gamma=1.7, streams=["text"], steps=(0.0, 0.5), branch="cond") as attachment:
        first = generate(pipe, call)
        record = json.loads(json.dumps(attachment.to_dict()))
    with alignvid.attach(pipe, Recipe.from_dict(record["recipe"])):
        assert torch.equal(generate(pipe, call), first)
    assert record["name"] == "generic:generic"
    assert record["gains"] == {"cross.text": 1.7}
    assert record["blocks"] == {"transformer": {"blocks": "0-1"}}
    assert record["active_forwards"] == 2
    assert record["acted"] == record["sites"] * record["active_forwards"]


@pytest.mark.parametrize(
    ("options", "gains"),
    [
        ({}, {"cross.text": 1.35, "cross.image": 1.35}),
        ({"gamma": 2.0}, {"cross.text": 2.0, "cross.image": 2.0}),
        ({"streams": ["text"]}, {"cross.text": 1.35}),
        ({"streams": {"cross.text": 2.0, "self.video": -1.0}, "gamma": 2.0}, {"cross.text": 4.0, "self.video": 0.5}),
    ],
    ids=["the preset", "another gamma", "one stream", "powers of your own"],
)
def test_an_override_changes_that_part_of_the_preset_alone(options, gains):
    pipe, _ = wan_i2v()
    with alignvid.attach(pipe, "generic", **options) as attachment:
        assert attachment.gains == pytest.approx(gains)
        assert attachment.recipe.steps == StepWindow.fraction(0.0, 0.3)
        assert attachment.recipe.blocks == BlockSet.of("first-half")
