"""The proof says by how much each attention's output changed, and is right by hand."""

from __future__ import annotations

import pytest
import torch

import alignvid
from alignvid import BlockSet, LowPass, Recipe, Scalar, StepWindow
from alignvid.errors import AttachmentError
from pipelines import generate, wan_i2v
from registry import BUILDERS

FAMILIES = ("wan_i2v", "framepack_v1", "hunyuan_t2v", "sd3", "z_image", "qwen_image", "cogvideox_i2v")


def everywhere(gamma: float, window: StepWindow | None = None) -> Recipe:
    return Recipe(Scalar(gamma, {"*.*": 1.0}), BlockSet.of("all"), window or StepWindow.all())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_gain_of_two_changes_every_attention_and_is_counted_no_more_for_it(name):
    pipe, call = BUILDERS[name]()
    with alignvid.attach(pipe, everywhere(2.0)) as attachment:
        expected = generate(pipe, call)
        acted = attachment.acted_count
        proof = attachment.proof()
        assert attachment.acted_count == acted
        assert torch.equal(generate(pipe, call), expected)  # the proof left nothing behind
    assert len(proof.sites) == attachment.site_count
    assert all(site.change is not None and site.change > 0.0 for site in proof.sites)


@pytest.mark.contract(
    "acted",
    done="`attachment.proof()` is asked for",
    guaranteed="the relative change of each attention's output, as computed by hand",
)
def test_the_change_of_one_attention_is_the_one_that_is_computed_by_hand():
    pipe, call = wan_i2v()
    seen = []
    recipe = Recipe(Scalar(2.0, {"cross.text": 1.0}), BlockSet.of([1]), StepWindow.all())
    with alignvid.attach(pipe, recipe) as attachment:
        attention = pipe.transformer.blocks[1].attn2
        handle = attention.register_forward_hook(lambda m, a, k, o: seen.append((a, k, o)), with_kwargs=True)
        generate(pipe, call)
        handle.remove()
        proof = attachment.proof()
    args, kwargs, scaled = seen[-1]
    with torch.no_grad():
        plain = attention(*args, **kwargs)
    (site,) = proof.sites
    assert site.site == "transformer.blocks.1.cross"
    assert site.change == pytest.approx(float((scaled - plain).norm() / plain.norm()), rel=1e-5)


@pytest.mark.contract(
    "acted",
    done="the gain acts on keys that are zero",
    guaranteed="the proof says that nothing changed, though the gain acted",
)
def test_a_gain_on_keys_that_are_zero_acts_and_changes_nothing():
    """ "Acted" alone is not "had a visible effect"."""
    pipe, call = wan_i2v()
    torch.nn.init.zeros_(pipe.transformer.blocks[0].attn2.norm_k.weight)
    recipe = Recipe(Scalar(2.0, {"cross.text": 1.0}), BlockSet.of([0]), StepWindow.all())
    with alignvid.attach(pipe, recipe) as attachment:
        generate(pipe, call)
        assert attachment.acted_count > 0
        proof = attachment.proof()
    assert [site.change for site in proof.sites] == [0.0]
    assert "changed no output of 1 attentions" in str(proof)


def test_the_low_passed_reference_is_proved_at_the_transformers_input():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, Recipe(LowPass(2.0), BlockSet.of("all"), StepWindow.all())) as attachment:
        generate(pipe, call)
        (site,) = attachment.proof().sites
    assert site.site == "transformer input" and site.change > 0.0


def test_a_proof_before_anything_ran_is_refused():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, everywhere(2.0, StepWindow.none())) as attachment:
        generate(pipe, call)
        with pytest.raises(AttachmentError, match=r"on in none of \d+ forwards"):
            attachment.proof()


def test_a_proof_after_detaching_is_refused_with_the_way():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, everywhere(2.0)) as attachment:
        generate(pipe, call)
    with pytest.raises(AttachmentError, match="inside the with block"):
        attachment.proof()


def test_a_proof_is_plain_data_and_one_line():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, everywhere(2.0)) as attachment:
        generate(pipe, call)
        proof = attachment.proof()
    assert set(proof.to_dict()) == {"noise_level", "sites"}
    assert "changed the output of 6 of 6 attentions" in str(proof) and "\n" not in str(proof)


def test_a_proof_that_is_taken_in_each_run_is_there_after_detaching():
    pipe, call = wan_i2v()
    with alignvid.attach(pipe, everywhere(2.0)) as attachment:
        expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(2.0), proof=True) as attachment:
        got = generate(pipe, call)
    assert torch.equal(got, expected)
    assert attachment.proof().has_changed_anything
    assert attachment.acted_count == attachment.site_count * attachment.active_forward_count
