"""AlignVid with what else a graph of ComfyUI holds: fp8, offloading, compiling, overrides, caches, guidance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import comfyui_core as core
from comfyui_aligned import GAMMA, POWERS, aligned, schedule, step_of
from comfyui_pack import pack

patch = pack("patch")
report = pack("report")


def always(sigma: float, number: int) -> bool:
    return True


@pytest.fixture(scope="module")
def model() -> Any:
    return core.wan()


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_fp8_weights_are_as_exact() -> None:
    config = core.wan_config()
    config.set_inference_dtype(torch.float8_e4m3fn, torch.float32)
    held = core.patcher_of(core.randomised(config.get_model({}, device="cpu")))
    assert held.model.diffusion_model.blocks[0].cross_attn.k.weight.dtype is torch.float8_e4m3fn
    expected = core.sampled(core.by_hand(held, POWERS, (0, 2), always))
    assert expected.isfinite().all() and not torch.equal(expected, core.sampled(held))
    close(core.sampled(aligned(held)), expected)


def test_weights_that_are_cast_and_patched_at_each_use_are_as_exact() -> None:
    """As --lowvram leaves modules: every weight is fetched, cast and patched in its own forward."""
    held = core.wan()
    for name, module in held.model.diffusion_model.named_modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = True
            if name.endswith("cross_attn.norm_k"):
                module.weight_function = [lambda weight: weight * 1.1]
    close(core.sampled(aligned(held)), core.sampled(core.by_hand(held, POWERS, (0, 2), always)))


def test_a_partly_loaded_model_is_as_exact(model: Any) -> None:
    expected = core.sampled(core.by_hand(model, POWERS, (0, 2), always))
    clone = aligned(model)
    core.comfy.model_management.unload_all_models()
    clone.partially_load(torch.device("cpu"), 0)
    close(core.sampled(clone), expected)


def compiled(patcher: Any) -> Any:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = patcher.clone()
    set_torch_compile_wrapper(model=clone, backend="eager", dynamic=False)
    return clone


def _compiled(model: Any, steps: str, is_first: bool) -> Any:
    if is_first:
        return compiled(aligned(model, steps=steps, blocks="0"))
    return aligned(compiled(model), steps=steps, blocks="0")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("is_first", [True, False], ids=["node-then-compile", "compile-then-node"])
def test_the_core_compile_node_is_as_exact_and_makes_no_graph_at_an_edge(is_first: bool) -> None:
    model = core.wan(layers=1)
    sigmas = schedule(model, steps=4)

    def acts(sigma: float, number: int) -> bool:
        return step_of(sigmas, sigma) < 2

    expected = core.sampled(core.by_hand(model, POWERS, (0,), acts), steps=4)
    graphs = {}
    for steps in ("all", "0.0-0.3"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        clone = _compiled(model, steps, is_first)
        found = core.sampled(clone, steps=4)
        graphs[steps] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    close(found, expected)
    assert graphs["all"] == graphs["0.0-0.3"] > 0
    assert patch.patch_of(clone).run.active_forwards == 2
    torch._dynamo.reset()
    assert torch.equal(core.sampled(model), core.sampled(model.clone()))


def test_an_override_of_the_attention_that_a_later_node_sets_changes_nothing(model: Any) -> None:
    calls = []

    def override(attention: Any, *args: Any, **more: Any) -> Any:
        calls.append(1)
        return attention(*args, **more)

    clone = aligned(model).clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = override
    close(core.sampled(clone), core.sampled(core.by_hand(model, POWERS, (0, 2), always)))
    assert calls


def test_easycache_forgets_where_the_gain_ends(model: Any) -> None:
    from comfy_extras.nodes_easycache import EasyCacheNode

    cached = EasyCacheNode.execute(model, 1e9, 0.0, 1.0, False).result[0]
    whole: list[float] = []

    def watching(patcher: Any) -> Any:
        clone = patcher.clone()

        def note(executor: Any, *args: Any, **more: Any) -> Any:
            hook = executor.class_obj.diffusion_model.blocks[0].register_forward_pre_hook(
                lambda *_: whole.append(float(args[1].flatten()[0]))
            )
            try:
                return executor(*args, **more)
            finally:
                hook.remove()

        clone.add_wrapper_with_key("apply_model", "note", note)
        return clone

    sigmas = schedule(model)
    core.sampled(watching(cached))
    assert [step_of(sigmas, sigma) for sigma in whole] == [0, 1]  # EasyCache itself needs two steps to begin
    whole.clear()
    clone = watching(aligned(cached, steps="0.0-0.5"))
    core.sampled(clone)
    assert [step_of(sigmas, sigma) for sigma in whole] == [0, 1, 5]
    assert patch.patch_of(clone).run.active_steps == {0, 1}


def test_lazycache_is_said_to_leave_out_whole_steps(model: Any) -> None:
    from comfy_extras.nodes_easycache import LazyCacheNode

    clone = aligned(LazyCacheNode.execute(model, 0.1, 0.0, 1.0, False).result[0])
    core.sampled(clone)
    assert "LazyCache leaves out whole steps" in report.report_of(patch.patch_of(clone))[0]


def test_skip_layer_guidance_is_as_exact(model: Any) -> None:
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    def guided(patcher: Any) -> Any:
        return SkipLayerGuidanceDiT.execute(patcher, 2.0, 0.0, 1.0, "1", "").result[0]

    expected = core.sampled(core.by_hand(guided(model), POWERS, (0, 2), always), cfg=3.0)
    for clone in (guided(aligned(model)), aligned(guided(model))):
        close(core.sampled(clone, cfg=3.0), expected)


def test_normalized_attention_guidance_is_as_exact(model: Any) -> None:
    nag = pytest.importorskip("comfy_extras.nodes_nag").NAGuidance

    def guided(patcher: Any) -> Any:
        return nag.execute(patcher, 5.0, 0.5, 1.5).result[0]

    expected = core.sampled(core.by_hand(guided(model), POWERS, (0, 2), always))
    for clone in (guided(aligned(model)), aligned(guided(model))):
        close(core.sampled(clone), expected)


def test_a_recipe_of_two_modulations_multiplies_both(model: Any) -> None:
    from alignvid import Recipe, Scalar, StepWindow
    from alignvid.blocks import BlockSet

    second = Recipe(Scalar(2.0, {"cross.text": 1.0}), BlockSet.of("1"), StepWindow.all())
    recipe = Recipe(
        Scalar(GAMMA, {"cross.text": 2.0, "cross.image": 1.0}), BlockSet.of("0,2"), StepWindow.all(), then=(second,)
    )
    inner = core.by_hand(model, {"cross_attn.norm_k": 2.0}, (1,), always)
    around = inner.get_wrappers("apply_model", "by_hand")[0]
    both = core.by_hand(model, POWERS, (0, 2), always)
    both.add_wrapper_with_key("apply_model", "second", around)
    clone = aligned(model, recipe=recipe, strength="preset", blocks="", steps="", streams="")
    close(core.sampled(clone), core.sampled(both))


def test_what_the_patch_adds_is_no_more_than_the_keys_that_it_multiplies(model: Any) -> None:
    """Added operations and bytes, counted: one multiplication per scaled key norm, nothing where it is off."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    counts = {}
    for name, patcher in {
        "plain": model,
        "off": aligned(model, branch="uncond"),
        "on": aligned(model),
    }.items():
        core.sampled(patcher, steps=2)
        with Counting() as counting:
            core.sampled(patcher, steps=2)
        counts[name] = sum("aten.mul" in item for item in counting.names), len(counting.names)
    assert counts["on"][0] - counts["plain"][0] == 2 * 2 * 2  # steps × blocks × norms
    assert counts["off"][0] == counts["plain"][0]
    assert counts["on"][1] - counts["plain"][1] < 40
