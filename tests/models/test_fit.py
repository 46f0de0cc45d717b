"""A family describes any module, by data; what the model lacks, or merely bears the name of, is named at attach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import alignvid
from alignvid.errors import UnknownTarget, UnsupportedModel
from alignvid.models import KeyNorm, Site, Stack, registry
from image_pipelines import flux
from pipelines import generate, wan_t2v
from plain_model import CROSS, HEADS, PLAIN, SELF, SIZE, PlainVideoModel, WanTransformer3DModel, plain_model


@pytest.fixture
def register(monkeypatch):
    """Registers for one test."""
    monkeypatch.setattr(registry, "_registered", {})
    return registry.register


def _with(*sites: Site, stack: str = "trunk.blocks"):
    return replace(PLAIN, stacks=(Stack(stack, sites),))


def test_a_module_without_a_config_is_attached_to_observed_and_restored(register):
    register(PLAIN)
    model, call = plain_model()
    plain = model(**call)
    with alignvid.attach(model, gamma=1.0, blocks="all", steps="all"):
        assert torch.equal(model(**call), plain)
    with alignvid.attach(model, gamma=2.0, blocks="all", steps="all") as attachment:
        assert not torch.equal(model(**call), plain)
    assert attachment.blocks("transformer") == {"trunk.blocks": "0-2"}
    with alignvid.observe(model) as trace:
        assert torch.equal(model(**call), plain)
    assert trace.where(site="cross", query="video", keys="text").measures
    assert len(trace.origin["models"]["transformer"]["config_sha256"]) == 64


def test_its_gain_is_that_of_a_softmax_written_out(register):
    register(PLAIN)
    model, call = plain_model()
    attention = model.trunk.blocks[0].cross_attn
    seen = {}
    attention.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    attention.register_forward_hook(lambda _, args, output: seen.update(output=output))
    with alignvid.attach(model, gamma=1.7, blocks=[0], steps="all", streams=["cross.text"]):
        model(**call)
    split = lambda tokens: tokens.unflatten(2, (HEADS, SIZE)).transpose(1, 2)  # noqa: E731  # one line, used thrice
    query, key = split(attention.norm_q(attention.q(seen["x"]))), split(attention.norm_k(attention.k(call["context"])))
    weights = torch.softmax(1.7 * query @ key.transpose(2, 3) / SIZE**0.5, -1)
    expected = attention.o((weights @ split(attention.v(call["context"]))).transpose(1, 2).flatten(2))
    torch.testing.assert_close(seen["output"], expected, atol=1e-6, rtol=0)


def test_a_stack_that_the_model_lacks_is_named_with_those_that_it_has(register):
    register(_with(SELF, CROSS, stack="blokcs"))
    expected = (
        r"PlainVideoModel has no `blokcs`, where the family plain .* its lists of blocks are `trunk.blocks` \(3\)"
    )
    for act in (alignvid.attach, alignvid.observe):
        with pytest.raises(UnsupportedModel, match=expected):
            act(plain_model()[0])


def test_a_path_that_a_block_lacks_is_named_with_those_that_it_has(register):
    register(_with(SELF, replace(CROSS, path="attn2")))
    expected = r"Block 0 of `trunk.blocks` in PlainVideoModel has no `attn2`.*it has `self_attn`, `cross_attn`"
    for act in (alignvid.attach, alignvid.observe):
        with pytest.raises(UnsupportedModel, match=expected):
            act(plain_model()[0])


def test_a_norm_that_an_attention_lacks_is_named_with_those_that_it_has(register):
    register(_with(SELF, replace(CROSS, keys=(KeyNorm("k_norm", ("text",)),))))
    with pytest.raises(UnsupportedModel, match=r"no `k_norm` in its attention cross.*`norm_q`, `norm_k`"):
        alignvid.attach(plain_model()[0])


def test_what_a_family_says_may_be_missing_is_passed_over(register):
    image = KeyNorm("norm_k_img", ("image",), is_optional=True)
    stacks = (
        Stack(
            "trunk.blocks",
            (SELF, replace(CROSS, keys=(*CROSS.keys, image)), Site("face", "face", (image,), is_optional=True)),
        ),
        Stack("vace_blocks", (SELF,), is_optional=True),
    )
    register(replace(PLAIN, stacks=stacks))
    model, call = plain_model()
    with alignvid.attach(model, steps="all") as attachment:
        model(**call)
    assert attachment.gains == {"cross.text": 1.35}


def test_a_block_set_of_an_unknown_stack_names_the_stacks(register):
    register(PLAIN)
    with pytest.raises(UnknownTarget, match=r"`blocks` is not a stack of PlainVideoModel; choose from trunk\.blocks\."):
        alignvid.attach(plain_model()[0], blocks={"blocks": [0]})


def test_a_class_that_merely_bears_a_known_name_is_refused_with_the_way_to_describe_it(register):
    model = WanTransformer3DModel()
    expected = (
        r"This WanTransformer3DModel is of plain_model; the family wan describes .* in diffusers.*\"plain_model:Wan"
    )
    with pytest.raises(UnsupportedModel, match=expected):
        alignvid.attach(model)
    register(replace(PLAIN, transformers=("plain_model:WanTransformer3DModel",)))
    alignvid.attach(model)


@pytest.mark.parametrize(
    ("name", "is_described"), [("plain_model:PlainVideoModel", True), ("plain:PlainVideoModel", False)]
)
def test_a_package_is_a_whole_name_and_not_the_beginning_of_one(name, is_described):
    assert replace(PLAIN, transformers=(name,)).describes(PlainVideoModel) is is_described


def test_a_subclass_is_described_by_the_family_of_the_nearest_class(register):
    pipe, _ = wan_t2v()
    mine = type("MyWan", (type(pipe.transformer),), {"__module__": "my_package.models"})
    pipe.transformer.__class__ = mine
    assert registry.family_of(pipe.transformer).name == "wan"
    register(replace(registry.families()["wan"], name="mine", transformers=("my_package:MyWan",)))
    assert registry.family_of(pipe.transformer).name == "mine"


def test_an_attached_model_is_still_described(register):
    pipe, call = flux()
    alignvid.attach(pipe)
    assert registry.family_of(pipe.transformer).name == "flux"
    generate(pipe, call)
