"""A model's fingerprint: diffusers' classes at their released sizes, without weights; and a class without config."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    HunyuanVideoFramepackTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)

import alignvid
from alignvid import presets
from alignvid.errors import UnknownPreset
from alignvid.host import hosts
from alignvid.host.fingerprint import fingerprint_of
from alignvid.host.transformers import Host
from alignvid.miniature import load_pipeline
from alignvid.models import Sizes, family_of, registry
from alignvid.presets.fingerprint import Fingerprint
from plain_model import LAYERS, PLAIN, plain_model

I2V = {"image_dim": 1280, "added_kv_proj_dim": 5120}
FRAMEPACK = {"num_layers": 20, "num_single_layers": 40}


def fingerprint(kind, **config) -> Fingerprint:
    with torch.device("meta"):
        transformer = kind(**config)
    return fingerprint_of(Host("transformer", transformer, transformer, family_of(transformer)))


@pytest.mark.parametrize(
    ("kind", "config", "expected", "preset"),
    [
        (WanTransformer3DModel, I2V, ("wan", {"blocks": 40}, 40, 5120, (1280,)), "wan2.1-i2v-14b:released"),
        (WanTransformer3DModel, {}, ("wan", {"blocks": 40}, 40, 5120), "generic:generic"),
        (
            WanTransformer3DModel,
            I2V | {"pos_embed_seq_len": 514},
            ("wan", {"blocks": 40}, 40, 5120, (1280, 1280)),
            "generic:generic",
        ),
        (
            WanVACETransformer3DModel,
            {"vace_layers": [0, 5]},
            ("wan", {"blocks": 40, "vace_blocks": 2}, 40, 5120),
            "generic:generic",
        ),
        (
            HunyuanVideoFramepackTransformer3DModel,
            FRAMEPACK,
            ("framepack", {"transformer_blocks": 20, "single_transformer_blocks": 40}, 24, 3072),
            "framepack:released",
        ),
        (
            FluxTransformer2DModel,
            {"num_layers": 1, "num_single_layers": 2},
            ("flux", {"transformer_blocks": 1, "single_transformer_blocks": 2}, 24, 3072),
            "generic:generic",
        ),
    ],
    ids=["wan i2v", "wan t2v", "wan flf2v", "wan vace", "framepack", "flux"],
)
def test_a_model_of_diffusers_has_its_sizes_and_its_preset(kind, config, expected, preset):
    found = fingerprint(kind, **config)
    assert found == Fingerprint(*expected)
    assert presets.find(found).name == preset


def test_f1_is_distinguished_by_its_checkpoint():
    found = fingerprint(HunyuanVideoFramepackTransformer3DModel, **FRAMEPACK)
    assert presets.find(replace(found, checkpoint="FramePack_F1_I2V_HY")).name == "framepack-f1:released"


def test_the_miniature_has_its_own_preset():
    assert alignvid.preset_for(load_pipeline()).name == "miniature:calibrated"


def test_a_class_of_another_package_has_the_presets_of_the_family_that_its_own_names(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    model, call = plain_model()
    like_the_miniature = Sizes(heads=4, width=128, image_keys=(64,))
    registry.register(replace(PLAIN, presets_of="wan", sizes=lambda _: like_the_miniature))
    assert fingerprint_of(hosts(model)[0]) == Fingerprint("wan", {"trunk.blocks": LAYERS}, 4, 128, (64,))
    with alignvid.attach(model, "miniature", steps="all") as attachment:  # a preset of that family may be named
        model(**call)
    assert attachment.name == "miniature:calibrated"
    registry.register(PLAIN)
    with pytest.raises(UnknownPreset, match="is for the family wan, but PlainVideoModel is of plain"):
        alignvid.attach(model, "miniature")
