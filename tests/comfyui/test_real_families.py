"""Every family of the pack on ComfyUI's real class: keys that it scales against keys scaled at the attention call.

The reference multiplies slices of the keys that reach the attention, after norm and rotation, by its own knowledge of
the token order; so a norm that is not called, or another order, shows as a difference.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from alignvid.errors import AlignvidError
from comfyui_classes import CASES, CHANNELS, GAMMA, Holder, aligned, built, patch, placed, run, scaling, settings

TARGETS = [(name, target) for name, case in CASES.items() for target in case.spans]


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_scaled_keys_are_those_that_reach_the_attention(name: str, target: str) -> None:
    case = CASES[name]
    model = built(case)
    plain = run(model, case)
    spans = placed(case, case.spans[target])
    if target == "double.text" and name == "hunyuan_video":
        spans = {}  # of the double blocks alone: told from the single ones by nothing here; counted below
    clone = aligned(model, streams=target)
    found = run(clone, case)
    assert found.isfinite().all() and not torch.equal(found, plain)
    if spans:
        expected = run(model, case, {"optimized_attention_override": scaling(spans, GAMMA)})
        torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)
    assert patch.patch_of(clone).run.acted == case.sites[target]
    assert torch.equal(run(model, case), plain)
    assert torch.equal(run(aligned(model, streams=target, gamma=1.0), case), plain)


@pytest.mark.parametrize("name", CASES)
def test_the_generic_preset_fits_and_its_proof_shows_a_change(name: str) -> None:
    case = CASES[name]
    model = built(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone = patch.patched(model, lambda lent: settings.attached(lent, "auto", None, proof=True), measures=True)[0]
    run(clone, case)
    attachment, notes = patch.patch_of(clone).attachment, patch.patch_of(clone).run.notes
    assert attachment.name == "generic:generic" and attachment.proof().has_changed_anything and not notes
    assert all(change < 10.0 for change in attachment.proof().changes)


def test_a_later_override_of_the_attention_is_chained_where_keys_are_reached_there() -> None:
    case, calls = CASES["lumina2"], []

    def other(attention: Any, *args: Any, **more: Any) -> Any:
        calls.append(args[1].shape[2])
        return attention(*args, **more)

    model = built(case)
    expected = run(model, case, {"optimized_attention_override": scaling({13: (0, 5)}, GAMMA)})
    found = run(aligned(model, streams="single.text"), case, {"optimized_attention_override": other})
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)
    assert calls.count(13) == 2


def test_z_image_with_reference_pictures_is_refused() -> None:
    case = CASES["z_image"]
    clone = aligned(built(case), streams="single.text")
    with pytest.raises(AlignvidError, match="reference pictures"):
        run(clone, case._replace(inputs={**case.inputs, "ref_latents": [(1, CHANNELS, 4, 4)]}))


def test_energy_acts_where_queries_pass_a_norm_and_is_refused_where_keys_are_reached() -> None:
    from alignvid import Energy, Recipe, StepWindow

    recipe = Recipe(Energy(2.0, powers={"cross.text": 1.0}), steps=StepWindow.all())
    model = built(CASES["ltx_video"])
    clone = patch.patched(model, lambda lent: settings.attached(lent, "auto", recipe, proof=False))[0]
    assert not torch.equal(run(clone, CASES["ltx_video"]), run(model, CASES["ltx_video"]))
    fused = Recipe(Energy(2.0, powers={"single.text": 1.0}), steps=StepWindow.all())
    with pytest.raises(AlignvidError, match="no key norm"):
        patch.patched(built(CASES["lumina2"]), lambda lent: settings.attached(lent, "auto", fused, proof=False))


def test_an_unknown_transformer_is_refused_by_name() -> None:
    class UNetModel(nn.Module):
        pass

    with pytest.raises(AlignvidError, match="UNetModel is not supported"):
        aligned(SimpleNamespace(model=Holder(UNetModel()), get_wrappers=lambda *_: []))
