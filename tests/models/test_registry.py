"""A family of another package, registered in code or found through an entry point, works like a built-in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

import alignvid
from alignvid.errors import AlignvidError, ObservationError, UnsupportedModel
from alignvid.models import Family, KeyNorm, Site, Stack, families, register, registry
from pipelines import generate

LTX = Family(
    name="ltx_video",
    transformers=("LTXVideoTransformer3DModel",),
    stacks=(Stack("transformer_blocks", (Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),)),)),),
)


@pytest.fixture
def register_for_this_test(monkeypatch):
    """Register where LTX-Video is not built in."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_installed_families", dict)
    return register


@pytest.fixture
def ltx() -> tuple[DiffusionPipeline, dict[str, Any]]:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=3,
        caption_channels=32,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
    )
    pipe = LTXPipeline(FlowMatchEulerDiscreteScheduler(), vae, None, None, transformer.eval())
    pipe.set_progress_bar_config(disable=True)
    mask = torch.ones(1, 16, dtype=torch.bool)
    call = {
        "prompt_embeds": torch.randn(1, 16, 32),
        "prompt_attention_mask": mask,
        "negative_prompt_embeds": torch.randn(1, 16, 32),
        "negative_prompt_attention_mask": mask,
        "height": 32,
        "width": 32,
        "num_frames": 9,
        "num_inference_steps": 10,
        "guidance_scale": 3.0,
        "output_type": "latent",
    }
    return pipe, call


def test_a_model_that_nobody_described_is_refused(register_for_this_test, ltx):
    pipe, _ = ltx
    with pytest.raises(UnsupportedModel, match=r"LTXVideoTransformer3DModel is not supported.*docs/families\.md"):
        alignvid.attach(pipe)


def test_a_registered_family_is_attached_to_like_a_built_in_one(register_for_this_test, ltx):
    pipe, call = ltx
    register_for_this_test(LTX)
    plain = generate(pipe, call)
    with alignvid.attach(pipe, gamma=1.0):
        assert torch.equal(generate(pipe, call), plain)
    with alignvid.attach(pipe) as attachment:
        assert not torch.equal(generate(pipe, call), plain)
    assert torch.equal(generate(pipe, call), plain)
    assert attachment.blocks("transformer") == {"transformer_blocks": "0-1"}
    assert attachment.gains == {"cross.text": 1.35}
    assert attachment.acted_count == 2 * 3  # blocks, steps; both CFG halves are one batch


def _examples() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    return [part.partition("```")[0] for part in page.split("```python\n")[1:]]


def test_the_worked_example_of_the_documentation_works_and_is_short(register_for_this_test, ltx):
    pipe, call = ltx
    plain = generate(pipe, call)
    example, with_counts = _examples()
    assert len(example.splitlines()) <= 25
    names: dict[str, Any] = {}
    exec(example, names)
    with alignvid.attach(pipe) as attachment:
        assert not torch.equal(generate(pipe, call), plain)
    assert attachment.gains == {"cross.text": 1.35}
    with alignvid.observe(pipe, steps=(0.0, 0.2)) as trace:
        assert torch.equal(generate(pipe, call), plain)
    assert {(fact.site, fact.query, fact.keys) for fact in trace.facts} >= {
        ("self", "video", "video"),
        ("cross", "video", "text"),
    }
    assert trace.problems == []
    exec(with_counts, names)  # it needs nothing but the first
    latents = torch.empty(1, 8, 2, 4, 4)
    assert names["reads"].token_counts(None, {"hidden_states": latents}) == {"video": 8}


def test_a_family_whose_queries_are_nobodys_is_named_with_the_remedy(register_for_this_test, ltx):
    pipe, call = ltx
    register_for_this_test(LTX)  # cross-attention alone
    expected = (
        r"cross .* has 2 queries but 16 keys \(text\): the family does not say which stream asks. Set Site.queries"
    )
    with pytest.raises(ObservationError, match=expected), alignvid.observe(pipe, steps=(0.0, 0.1)):
        generate(pipe, call)


@pytest.mark.parametrize(
    ("branch", "acting"), [("both", [True, True]), ("cond", [False, True]), ("uncond", [True, False])]
)
def test_its_batched_guidance_is_modulated_by_half(register_for_this_test, ltx, branch, acting):
    pipe, call = ltx
    register_for_this_test(LTX)
    norm = pipe.transformer.transformer_blocks[0].attn2.norm_k
    ratios = []

    def compare(norm: torch.nn.Module, inputs: tuple[torch.Tensor], keys: torch.Tensor) -> None:
        plain = torch.nn.functional.rms_norm(inputs[0], norm.normalized_shape, norm.weight, norm.eps)
        ratios.append((keys / plain).flatten(1).mean(1))

    norm.register_forward_hook(compare)
    with alignvid.attach(pipe, steps=(0.0, 0.1), branch=branch):
        generate(pipe, call)
    expected = torch.tensor([1.35 if acts else 1.0 for acts in acting])
    torch.testing.assert_close(ratios[0], expected, atol=1e-5, rtol=0.0)  # the uncond half first, then the cond one
    torch.testing.assert_close(torch.stack(ratios[1:]), torch.ones(9, 2), atol=1e-5, rtol=0.0)


def test_a_registered_family_goes_before_an_installed_one_of_the_same_name(register_for_this_test):
    mine = Family(name="wan", transformers=("MyWan",), stacks=())
    register_for_this_test(mine)
    assert families()["wan"] is mine


MODULE = """
from alignvid.models import Family, KeyNorm, Site, Stack

FAMILY = Family(
    name="anyflow_far",
    transformers=("AnyFlowFARTransformer3DModel",),
    stacks=(Stack("blocks", (Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),)),)),),
)
"""

SCRIPT = """
import alignvid
from diffusers import AnyFlowFARTransformer3DModel
sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "ffn_dim": 32}
transformer = AnyFlowFARTransformer3DModel(num_layers=3, **sizes)
print(alignvid.attach(transformer))
"""


@pytest.mark.slow
def test_an_installed_package_adds_a_family_through_its_entry_point(tmp_path):
    installed = tmp_path / "someones_far-1.0.dist-info"
    installed.mkdir()
    (tmp_path / "someones_far.py").write_text(MODULE)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-far\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[alignvid.models]\nanyflow_far = someones_far\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert "transformer blocks 0-1 of `blocks`" in run.stdout
    assert "cross.text x1.35" in run.stdout


def test_an_entry_point_without_a_family_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "brokenfamily.py").write_text("")
    installed = tmp_path / "broken-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[alignvid.models]\nbroken = brokenfamily\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._installed_families.cache_clear()
    try:
        with pytest.raises(AlignvidError, match=r"broken.*FAMILY"):
            families()
    finally:
        registry._installed_families.cache_clear()
