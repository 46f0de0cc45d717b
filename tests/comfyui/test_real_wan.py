"""AlignVid on ComfyUI's Wan: real classes, random weights, real samplers, against keys that hooks multiply."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import comfyui_core as core
from alignvid.errors import AlignvidError
from comfyui_aligned import GAMMA, POWERS, aligned, schedule, step_of
from comfyui_pack import pack

patch, report = pack("patch"), pack("report")


@pytest.fixture(scope="module")
def model() -> Any:
    return core.wan()


WINDOWS = {
    "0.0-0.3": lambda step, level: step < 3,
    "noise>0.9": lambda step, level: level > 0.9,
    "noise:0.5-0.9": lambda step, level: 0.5 < level <= 0.9,
}


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize(("steps", "branch"), [("0.0-0.3", "both"), ("noise>0.9", "cond"), ("noise:0.5-0.9", "uncond")])
@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "dpmpp_2m", "heun", "res_multistep", "dpm_2"])
def test_it_is_as_exact_as_keys_scaled_by_hand(model: Any, sampler: str, steps: str, branch: str, cfg: float) -> None:
    sigmas = schedule(model, sampler)

    def acts(sigma: float, number: int) -> bool:
        step = step_of(sigmas, sigma)
        return WINDOWS[steps](step, sigmas[step]) and branch in ("both", ("cond", "uncond")[number])

    expected = core.sampled(core.by_hand(model, POWERS, (0, 2), acts), sampler=sampler, cfg=cfg)
    clone = aligned(model, steps=steps, branch=branch)
    found = core.sampled(clone, sampler=sampler, cfg=cfg)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    if branch != "uncond" or cfg > 1.0:
        assert not torch.equal(found, core.sampled(model, sampler=sampler, cfg=cfg))
        assert patch.patch_of(clone).run.acted > 0


@pytest.mark.parametrize(
    ("stream", "norm"),
    [
        ("cross.text", "cross_attn.norm_k"),
        ("cross.image", "cross_attn.norm_k_img"),
        ("self.video", "self_attn.norm_k"),
    ],
)
def test_each_stream_by_itself_is_as_exact(model: Any, stream: str, norm: str) -> None:
    clone = aligned(model, streams=stream)
    expected = core.sampled(core.by_hand(model, {norm: GAMMA}, (0, 2), lambda *_: True))
    torch.testing.assert_close(core.sampled(clone), expected, atol=1e-6, rtol=1e-6)
    assert patch.patch_of(clone).run.acted == 10 * 2 and not torch.equal(expected, core.sampled(model))


def test_passes_of_guidance_in_two_forwards_are_as_exact(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for branch in ("both", "cond", "uncond"):

        def acts(sigma: float, number: int, branch: str = branch) -> bool:
            return branch in ("both", ("cond", "uncond")[number])

        together = core.sampled(aligned(model, branch=branch), cfg=3.0)
        with monkeypatch.context() as little:
            little.setattr(core.comfy.samplers, "can_concat_cond", lambda one, other: one is other)
            clone = aligned(model, branch=branch)
            found = core.sampled(clone, cfg=3.0)
            expected = core.sampled(core.by_hand(model, POWERS, (0, 2), acts), cfg=3.0)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found, together, atol=1e-5, rtol=1e-5)
        assert patch.patch_of(clone).run.forwards == 20


def test_a_neutral_gain_is_bit_equal_and_the_base_model_and_other_clones_are_untouched(model: Any) -> None:
    plain, other = core.sampled(model, cfg=3.0), model.clone()
    types = [type(module) for module in model.model.modules()]
    assert torch.equal(core.sampled(aligned(model, gamma=1.0), cfg=3.0), plain)
    strong = aligned(model)
    assert not torch.equal(core.sampled(strong, cfg=3.0), plain)
    assert torch.equal(core.sampled(other, cfg=3.0), plain) and torch.equal(core.sampled(model, cfg=3.0), plain)
    assert [type(module) for module in model.model.modules()] == types
    core.comfy.model_management.unload_all_models()
    found = core.sampled(strong, cfg=3.0)
    core.comfy.model_management.unload_all_models()
    assert torch.equal(core.sampled(strong, cfg=3.0), found) and torch.equal(core.sampled(model, cfg=3.0), plain)


def test_two_nodes_on_two_branches_do_not_meet(model: Any) -> None:
    weak, strong = aligned(model), aligned(model, gamma=2.0, streams="cross.text", blocks="1,3")
    for _ in range(2):
        torch.testing.assert_close(
            core.sampled(weak), core.sampled(core.by_hand(model, POWERS, (0, 2), lambda *_: True)), atol=1e-6, rtol=1e-6
        )
        expected = core.sampled(core.by_hand(model, {"cross_attn.norm_k": 2.0}, (1, 3), lambda *_: True))
        torch.testing.assert_close(core.sampled(strong), expected, atol=1e-6, rtol=1e-6)


def test_a_second_node_on_the_same_branch_is_refused(model: Any) -> None:
    with pytest.raises(AlignvidError, match="already"):
        aligned(aligned(model))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_slider_is_as_exact_and_shares_with_guidance(model: Any, cfg: float) -> None:
    gain = 2.0 ** (0.5 / cfg)  # of follow = 0.5, and its weaker inverse for the picture's keys: docs/follow.md
    powers = {"cross_attn.norm_k": gain, "cross_attn.norm_k_img": gain**-0.25}
    clone = aligned(
        model, preset="auto", strength="follow", follow=0.5, **dict.fromkeys(("blocks", "steps", "streams"), "")
    )
    expected = core.sampled(core.by_hand(model, powers, (0, 1, 2, 3), lambda *_: True), cfg=cfg)
    torch.testing.assert_close(core.sampled(clone, cfg=cfg), expected, atol=1e-6, rtol=1e-6)


def test_a_lora_before_and_after_is_the_same(model: Any) -> None:
    weights = {
        f"diffusion_model.blocks.{block}.cross_attn.{part}.weight": core.drawn(core.WIDTH, core.WIDTH, seed=block)
        for block in (0, 1)
        for part in ("k", "v")
    }

    def with_lora(patcher: Any) -> Any:
        clone = patcher.clone()
        clone.add_patches({name: ("diff", (weight,)) for name, weight in weights.items()}, 0.3)
        return clone

    expected = core.sampled(core.by_hand(with_lora(model), POWERS, (0, 2), lambda *_: True))
    for _ in range(2):
        torch.testing.assert_close(core.sampled(aligned(with_lora(model))), expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(core.sampled(with_lora(aligned(model))), expected, atol=1e-6, rtol=1e-6)


def test_counters_are_of_one_run(model: Any) -> None:
    clone = aligned(model, steps="0.0-0.3")
    for _ in range(2):
        core.sampled(clone, cfg=3.0)
        run = patch.patch_of(clone).run
        assert (run.forwards, run.active_forwards, run.acted) == (10, 3, 3 * 2)
        assert run.active_steps == {0, 1, 2} and run.state == "completed"


def test_an_interruption_and_an_error_leave_the_model_plain_and_say_so(model: Any) -> None:
    plain, clone = core.sampled(model), aligned(model)

    def stop(step: int, *_: Any) -> None:
        if step == 3:
            raise core.comfy.model_management.InterruptProcessingException

    with pytest.raises(core.comfy.model_management.InterruptProcessingException):
        core.sampled(clone, callback=stop)
    run = patch.patch_of(clone).run
    assert run.state == "stopped by InterruptProcessingException" and run.active_steps == {0, 1, 2, 3}
    assert torch.equal(core.sampled(model), plain)
    broken = clone.clone()
    broken.set_model_attn1_patch(lambda *_, **__: None)
    broken.add_wrapper_with_key("diffusion_model", "test", lambda executor, *_, **__: executor.no_such_thing)
    with pytest.raises(AttributeError):
        core.sampled(broken)
    assert patch.patch_of(broken).run.state == "stopped by AttributeError"
    assert torch.equal(core.sampled(model), plain)
    assert patch.patch_of(clone) is patch.patch_of(broken)


def test_two_samplers_see_their_own_slices_and_a_noise_window_is_the_same_for_both(model: Any) -> None:
    sigmas = schedule(model)
    halves = ({"last_step": 5}, {"start_step": 5, "disable_noise": True})
    for steps, rule in (
        ("noise>0.9", lambda sigma, first: sigma > 0.9),
        ("0.0-0.4", lambda sigma, first: step_of(sigmas, sigma) - first < 2),
    ):
        for half, first in zip(halves, (0, 5), strict=True):

            def acts(sigma: float, number: int, rule: Any = rule, first: int = first) -> bool:
                return rule(sigma, first)

            expected = core.sampled(core.by_hand(model, POWERS, (0, 2), acts), **half)
            clone = aligned(model, steps=steps)
            torch.testing.assert_close(core.sampled(clone, **half), expected, atol=1e-6, rtol=1e-6)
            if not any(acts(sigma, 0) for sigma in sigmas[first : first + 5]):
                with pytest.raises(AlignvidError, match="within noise level"):
                    report.report_of(patch.patch_of(clone))
                continue
            said = report.report_of(patch.patch_of(clone))[0]
            assert ("ran no whole schedule" in said) == (steps == "0.0-0.4")


def test_a_denoise_below_one_counts_its_own_steps_and_is_as_exact(model: Any) -> None:
    clone, given = aligned(model, steps="0.0-0.3"), {"denoise": 0.5, "latent": core.drawn(1, 16, 2, 4, 4, seed=3)}
    found = core.sampled(clone, **given)
    run = patch.patch_of(clone).run
    assert run.active_steps == {0, 1, 2} and len(run.levels) == 10 and run.is_slice
    first = {float(torch.tensor(sigma)) for sigma in run.sigma_of_step[:3]}
    by_hand = core.by_hand(model, POWERS, (0, 2), lambda sigma, number: sigma in first)
    torch.testing.assert_close(found, core.sampled(by_hand, **given), atol=1e-6, rtol=1e-6)


def test_a_batch_of_two_prompts_is_as_exact(model: Any) -> None:
    prompts = core.conditioning(1, samples=2), core.conditioning(2, samples=2)
    cond_alone = core.by_hand(model, POWERS, (0, 2), lambda sigma, number: number == 0)
    expected = core.sampled(cond_alone, samples=2, cfg=3.0, prompts=prompts)
    found = core.sampled(aligned(model, branch="cond"), samples=2, cfg=3.0, prompts=prompts)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_text_to_video_and_vace_have_no_picture(model: Any) -> None:
    for name, more in (("WAN21_T2V", {}), ("WAN21_Vace", {"vace_layers": 2, "vace_in_dim": 96, "model_type": "vace"})):
        plain = core.wan(name, **more)
        prompts = core.conditioning(1, picture=False), core.conditioning(2, picture=False)
        clone = aligned(plain, streams="cross.text=2")
        expected = core.sampled(
            core.by_hand(plain, {"cross_attn.norm_k": GAMMA**2}, (0, 2), lambda *_: True), prompts=prompts
        )
        torch.testing.assert_close(core.sampled(clone, prompts=prompts), expected, atol=1e-6, rtol=1e-6)
        with pytest.raises(AlignvidError, match=r"cross\.image"):
            aligned(plain, streams="cross.image")


def test_the_report_says_what_acted_and_by_how_much(model: Any) -> None:
    clone = aligned(model, measure=True, steps="0.0-0.3")
    with pytest.raises(AlignvidError, match="Nothing was sampled"):
        report.report_of(patch.patch_of(clone))
    core.sampled(clone)
    words, data = report.report_of(patch.patch_of(clone))
    assert "cross.text x2.25" in words and "step 0-2" in words and "changed the output of 2 of 2" in words
    assert data["run"]["active_steps"] == [0, 1, 2] and data["proof"]["sites"][0]["change"] > 0
    assert patch.patch_of(clone).run.acted == 3 * 2


def test_a_run_in_which_nothing_acted_is_an_error(model: Any) -> None:
    clone = aligned(model, branch="uncond")
    core.sampled(clone, cfg=1.0)
    with pytest.raises(AlignvidError, match="in none of 10 forwards"):
        report.report_of(patch.patch_of(clone))
    with pytest.raises(AlignvidError, match="no AlignVid node"):
        report.report_of(patch.patch_of(model))


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"blocks": "0,9"}, "Block 9 of `blocks` does not exist"),
        ({"streams": "audio"}, "'audio' is not a stream"),
        ({"preset": "framepack:released", "streams": ""}, "is for the family framepack"),
    ],
)
def test_what_does_not_fit_the_model_is_one_sentence(model: Any, widgets: Any, message: str) -> None:
    with pytest.raises(AlignvidError, match=message):
        aligned(model, **widgets)


def test_a_model_that_is_no_transformer_we_know_is_refused(model: Any) -> None:
    stranger = core.patcher_of(torch.nn.Linear(2, 2))
    with pytest.raises(AlignvidError, match="no diffusion model"):
        aligned(stranger)
    other = model.clone()
    other.model = torch.nn.Module()
    other.model.diffusion_model = core.comfy.model_base.UNetModel.__new__(core.comfy.model_base.UNetModel)
    torch.nn.Module.__init__(other.model.diffusion_model)
    with pytest.raises(AlignvidError, match="UNetModel is not supported"):
        aligned(other)


def test_the_strings_of_wrappers_are_comfyuis() -> None:
    kinds = core.comfy.patcher_extension.WrappersMP
    assert (patch._SAMPLE, patch._FORWARD) == (kinds.OUTER_SAMPLE, kinds.APPLY_MODEL)
