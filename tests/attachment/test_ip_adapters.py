"""IP-Adapter processors of diffusers are modules that define their own call; they run the key norm: none is foreign."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from torch import nn

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.host.sites import key_norms
from alignvid.host.transformers import hosts
from five import BUILDERS
from pipelines import generate

RECIPE = Recipe(Scalar(1.5, {"*.*": 1.0}), BlockSet.of("all"), StepWindow.all())
IMAGE_WIDTH = 8


def sd3_with_ip_adapter() -> tuple[DiffusionPipeline, dict[str, Any]]:
    pipe, call = BUILDERS["sd35"]()
    for block in pipe.transformer.transformer_blocks:
        heads, width = block.attn.heads, block.attn.inner_dim
        block.attn.set_processor(SD3IPAdapterJointAttnProcessor2_0(width, IMAGE_WIDTH, width // heads))
    return pipe, call


def flux_with_ip_adapter() -> tuple[DiffusionPipeline, dict[str, Any]]:
    pipe, call = BUILDERS["flux_kontext"]()
    torch.manual_seed(1)
    for block in pipe.transformer.transformer_blocks:
        block.attn.set_processor(FluxIPAdapterAttnProcessor(block.attn.inner_dim, IMAGE_WIDTH))
    picture = {"ip_hidden_states": [torch.randn(1, 4, IMAGE_WIDTH)]}
    return pipe, call | {"joint_attention_kwargs": picture}


@pytest.mark.parametrize("builder", [sd3_with_ip_adapter, flux_with_ip_adapter], ids=lambda builder: builder.__name__)
def test_an_ip_adapter_is_not_warned_of_and_the_gain_acts_beside_it(builder):
    pipe, call = builder()
    call["num_inference_steps"] = 1
    plain = generate(pipe, call)
    norms = {id(item.norm): item.norm for item in key_norms_of(pipe)}.values()
    hooks = [norm.register_forward_hook(lambda module, args, keys: keys * 1.5) for norm in norms]
    expected = generate(pipe, call)
    for hook in hooks:
        hook.remove()
    with alignvid.attach(pipe, RECIPE) as attachment:  # a warning would be an error
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0 and not torch.equal(expected, plain)
    assert torch.equal(generate(pipe, call), plain)


def key_norms_of(pipe: DiffusionPipeline) -> list[Any]:
    """Every key norm, as the family describes them."""
    return list(key_norms(hosts(pipe)[0], pipe))


class ForwardOfItsOwn(nn.Module):
    """Not diffusers', and called through nn.Module."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the processor in it gives."""
        return self.inner(*args, **kwargs)


def test_a_module_from_elsewhere_is_still_foreign():
    pipe, _ = BUILDERS["flux_kontext"]()
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = ForwardOfItsOwn(block.attn.processor)
    with pytest.warns(UserWarning, match="run ForwardOfItsOwn of .*test_ip_adapters, which is not diffusers'"):
        alignvid.attach(pipe, RECIPE)
