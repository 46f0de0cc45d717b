"""ALG: three passes a step, against the pipeline's own passes put together here."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
import pipelines
from alignvid.attachment.effects.alg import negative_of_three
from alignvid.attachment.effects.down_up import down_up
from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError, ModulationError, UnknownTarget
from alignvid.modulation import Alg, DownUp, Scalar, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from pipelines import generate

EVERYWHERE = Recipe(Alg(), BlockSet.of("all"), StepWindow.all())


def test_what_the_pipeline_is_given_makes_of_its_formula_that_of_the_source():
    text, low_passed, whole, scale = torch.tensor(2.0), torch.tensor(0.5), torch.tensor(1.0), 5.0
    unconditional = negative_of_three(low_passed, whole, scale)
    assert unconditional.item() == (5 * 0.5 - 1.0) / 4
    assert (unconditional + scale * (text - unconditional)).item() == pytest.approx(1.0 + 5 * (2.0 - 0.5))


def low_passed(latents: Tensor, start: int, ratio: float) -> Tensor:
    frames = latents[:, start:].transpose(1, 2)
    return torch.cat([latents[:, :start], down_up(frames.flatten(0, 1), ratio).view(frames.shape).transpose(1, 2)], 1)


@contextmanager
def by_hand(transformer: Any, scale: float, ratio: float, start: int):
    """The transformer as ALG needs it, written out: nothing of alignvid but the filter."""
    plain, passes = transformer.forward, []

    def forward(*args: Any, hidden_states: Tensor, **kwargs: Any) -> Any:
        low = plain(*args, hidden_states=low_passed(hidden_states, start, ratio), **kwargs)[0]
        passes.append(low)
        if len(passes) % 2:  # conditional
            return (low,)
        whole = plain(*args, hidden_states=hidden_states, **kwargs)[0]
        return ((scale * low - whole) / (scale - 1.0),)

    transformer.forward = forward
    try:
        yield
    finally:
        del transformer.forward


@pytest.mark.parametrize(("name", "start"), [("wan_i2v", 20), ("wan22_i2v", 20)])
def test_a_run_is_that_of_three_passes(name, start):
    pipe, call = pipelines.BUILDERS[name]()
    plain = generate(pipe, call)
    with by_hand(pipe.transformer, 6.0, 0.4, start):
        if getattr(pipe, "transformer_2", None) is not None:
            with by_hand(pipe.transformer_2, 3.0, 0.4, start):
                expected = generate(pipe, call, guidance_scale_2=3.0)
        else:
            expected = generate(pipe, call)
    changes = {"guidance_scale_2": 3.0} if name == "wan22_i2v" else {}
    with alignvid.attach(pipe, EVERYWHERE, strict=True) as attachment:
        got = generate(pipe, call, **changes)
    assert torch.allclose(got, expected, atol=1e-4) and not torch.allclose(got, plain, atol=1e-3)
    assert attachment.acted_count == attachment.forward_count == 6
    assert torch.equal(generate(pipe, call), plain)


def test_a_ratio_of_one_is_the_plain_run_bit_by_bit():
    pipe, call = pipelines.wan_i2v()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, Recipe(Alg(1.0), BlockSet.of("all"), StepWindow.all())):
        assert torch.equal(generate(pipe, call), expected)


def test_without_guidance_it_is_down_up():
    pipe, call = pipelines.wan_i2v()
    made = []
    for kind in (Alg(0.5), DownUp(0.5)):
        with alignvid.attach(pipe, Recipe(kind, BlockSet.of("all"), StepWindow.all())):
            made.append(generate(pipe, call, guidance_scale=1.0))
    assert torch.equal(*made)


def test_a_gain_beside_it_acts_in_all_three_passes():
    pipe, call = pipelines.wan_i2v()
    gain = Recipe(Scalar(1.5, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.all())
    with alignvid.attach(pipe, gain):
        with by_hand(pipe.transformer, 6.0, 0.4, 20):
            expected = generate(pipe, call)
    with alignvid.attach(pipe, Recipe(gain.modulation, gain.blocks, gain.steps, then=(EVERYWHERE,))):
        assert torch.allclose(generate(pipe, call), expected, atol=1e-4)


def test_hunyuan_video_does_not_say_its_scale_and_is_given_it():
    pipe, call = pipelines.hunyuan_i2v_latent_concat()
    call |= {"true_cfg_scale": 3.0}
    with alignvid.attach(pipe, EVERYWHERE), pytest.raises(AttachmentError, match=r"Alg\(scale=…\)"):
        generate(pipe, call)
    with alignvid.attach(pipe, Recipe(Alg(0.625, 3.0), BlockSet.of("all"), StepWindow.all())):
        got = generate(pipe, call)
    with by_hand(pipe.transformer, 3.0, 0.625, 5):
        assert torch.allclose(generate(pipe, call), got, atol=1e-4)


def test_a_cache_of_blocks_is_refused_at_the_third_pass():
    from diffusers import FirstBlockCacheConfig

    pipe, call = pipelines.wan_i2v()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with alignvid.attach(pipe, EVERYWHERE), pytest.raises(AttachmentError, match="turn the cache off"):
        generate(pipe, call)


def test_a_model_without_reference_channels_and_impossible_settings_are_refused():
    with pytest.raises(UnknownTarget, match="holds no channels of a reference image"):
        alignvid.attach(pipelines.wan_t2v()[0], Alg())
    with pytest.raises(ModulationError, match="scale must be above 1, or 0"):
        Alg(0.4, 1.0)
    assert from_dict(Alg(0.3, 4.0).to_dict()) == Alg(0.3, 4.0) and hash(Alg()) != hash(DownUp())
