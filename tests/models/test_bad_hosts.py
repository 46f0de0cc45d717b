"""Models in a state that cannot be attached to: one sentence that says why, and what to do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    DiTTransformer2DModel,
    DreamLiteMobilePipeline,
    DreamLitePipeline,
    DreamLiteTransformer2DModel,
    FluxTransformer2DModel,
    MiniMaxMusic3Transformer1DModel,
    SD3ControlNetModel,
    TransformerTemporalModel,
)
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import nn

import alignvid
from alignvid.errors import AttachmentError, UnsupportedModel
from alignvid.host import versions
from alignvid.models import families
from alignvid.models.refused import REFUSED
from image_pipelines import FLUX_TRANSFORMER, SD3_TRANSFORMER, flux, flux_kontext
from pipelines import generate


class ForeignProcessor(FluxAttnProcessor):
    """Another package's attention that runs the norms as diffusers' does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class NormlessProcessor:
    """Another package's attention that leaves the norms out."""

    _attention_backend = None

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *_: Any) -> Any:
        values = attn.to_out[0](attn.to_v(hidden_states))
        return values if encoder_hidden_states is None else (values, encoder_hidden_states)


class RenamedProcessor(FluxAttnProcessor):
    """A name of one's own around diffusers' code."""


def test_an_unsupported_class_is_refused_with_the_nearest_supported_ones_and_no_others():
    with pytest.raises(
        UnsupportedModel, match=r"SD3ControlNetModel is not supported; .*`alignvid models`.*25 lines"
    ) as error:
        alignvid.attach(SD3ControlNetModel(**SD3_TRANSFORMER))
    supported = {name for family in families().values() for name in family.transformers}
    assert f"nearest among the {len(supported)} that are supported: " in str(error.value)
    named = {name for name in supported if name in str(error.value)}
    assert "SD3Transformer2DModel" in named
    assert len(named) == 3


_SMALL = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
_PART = {**_SMALL, "in_channels": 8, "norm_num_groups": 2}


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: DiTTransformer2DModel(**_SMALL, sample_size=8), "It is given a class and no prompt"),
        (lambda: DreamLitePipeline(*[None] * 6), "It has a U-Net with a small transformer here and there"),
        (lambda: DreamLiteMobilePipeline(*[None] * 6), "It has a U-Net with a small transformer here and there"),
        (lambda: DreamLiteTransformer2DModel(**_PART), "It is a part of a U-Net"),
        (lambda: TransformerTemporalModel(**_PART), "It is a part of U-Nets that looks from frame to frame"),
        (lambda: MiniMaxMusic3Transformer1DModel(in_channels=4, condition_dim=8, **_SMALL), "It makes sound alone"),
    ],
)
def test_what_cannot_be_attached_to_is_refused_with_the_reason(build, reason):
    model = build()
    with pytest.raises(UnsupportedModel, match=rf"{type(model).__name__} is not supported\. {reason}"):
        alignvid.attach(model)


def test_nothing_is_both_refused_and_described():
    described = [name for family in families().values() for name in (*family.pipelines, *family.transformers)]
    assert set(REFUSED).isdisjoint(described)
    assert all(hasattr(diffusers, name) for name in REFUSED)


def test_a_half_built_pipeline_is_refused():
    pipe, _ = flux()
    pipe.transformer = None
    with pytest.raises(AttachmentError, match=r"FluxPipeline has no transformer loaded .*load it, then attach"):
        alignvid.attach(pipe)


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**FLUX_TRANSFORMER)
    with pytest.raises(AttachmentError, match=r"no weights yet.*meta device.*load them, then attach"):
        alignvid.attach(transformer)


@pytest.mark.parametrize("installed", ["0.30.3", "0.36.9", "0.9"])
def test_an_older_diffusers_is_refused_with_the_line_that_updates_it(monkeypatch, installed):
    monkeypatch.setattr(versions, "version", lambda _: installed)
    with pytest.raises(AttachmentError, match=rf"diffusers {installed} is older than 0\.37\.0.*pip install --upgrade"):
        versions.check_versions(FluxTransformer2DModel)


@pytest.mark.parametrize("installed", ["0.37.0", "0.43.0.dev0", "1.0"])
def test_a_newer_diffusers_is_not_refused(monkeypatch, installed):
    monkeypatch.setattr(versions, "version", lambda _: installed)
    versions.check_versions(FluxTransformer2DModel)


def test_the_oldest_diffusers_is_the_one_that_the_package_asks_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"diffusers>={versions.OLDEST_DIFFUSERS}" in project["optional-dependencies"]["diffusers"]


def test_a_processor_of_somebody_elses_is_named_in_a_warning_and_the_gain_acts_if_it_runs_the_norm():
    pipe, call = flux()
    plain = generate(pipe, call)
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = ForeignProcessor()
    with pytest.warns(UserWarning, match=r"`transformer_blocks` run ForeignProcessor of .*norm_added_k.*gamma=1\.35"):
        alignvid.attach(pipe, streams=["double.text"])
    assert not torch.equal(generate(pipe, call), plain)


def test_a_processor_that_leaves_the_norm_out_is_named_in_the_same_warning():
    pipe, call = flux()
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = NormlessProcessor()
    plain = generate(pipe, call)
    with pytest.warns(UserWarning, match=r"NormlessProcessor.*the gain does nothing"):
        alignvid.attach(pipe, streams=["double.text"])
    assert torch.equal(generate(pipe, call), plain)


def test_a_processor_that_comes_after_attaching_is_named_when_the_next_run_begins():
    pipe, call = flux()
    alignvid.attach(pipe, streams=["double.text"])
    generate(pipe, call)
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = NormlessProcessor()
    with pytest.warns(UserWarning, match=r"NormlessProcessor.*the gain does nothing"):
        generate(pipe, call)
    generate(pipe, call)  # said once


def test_a_name_of_ones_own_around_diffusers_processor_needs_no_warning():
    pipe, _ = flux()
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = RenamedProcessor()
    alignvid.attach(pipe)


class SomebodysWrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


@pytest.mark.parametrize(("wrap", "inside"), [(nn.DataParallel, "module"), (SomebodysWrapper, "model")])
def test_a_wrapped_transformer_is_refused_with_the_place_to_attach_to(wrap, inside):
    pipe, _ = flux_kontext()
    wrapped = wrap(pipe.transformer)
    expected = f"wrapped in {wrap.__name__}, which alignvid does not see through; attach before wrapping it, or to what"
    with pytest.raises(AttachmentError, match=rf"{re.escape(expected)} lies inside, at `{inside}`"):
        alignvid.attach(wrapped)
    alignvid.attach(getattr(wrapped, inside))
