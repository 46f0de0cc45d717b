"""AlignVid with what else a graph of ComfyUI holds: fp8, offloading, compiling, overrides, caches, guidance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import comfyui_core as core
from comfyui_aligned import POWERS, aligned, schedule, step_of
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


def compiled(patcher: Any, keys: list[str]) -> Any:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = patcher.clone()
    set_torch_compile_wrapper(model=clone, backend="eager", dynamic=False, keys=keys)
    return clone


def _compiled(model: Any, steps: str, is_first: bool, keys: list[str]) -> Any:
    if is_first:
        return compiled(aligned(model, steps=steps, blocks="0"), keys)
    return aligned(compiled(model, keys), steps=steps, blocks="0")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("is_first", [True, False], ids=["node-then-compile", "compile-then-node"])
@pytest.mark.parametrize("layers", [0, 3], ids=["whole", "by-block"])
def test_the_core_compile_node_is_as_exact_and_makes_no_graph_at_an_edge(
    is_first: bool, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole model, or of each of its blocks."""
    import comfy.ldm.wan.model as code
    from comfy.ldm.modules.attention import attention_pytorch

    monkeypatch.setattr(code, "optimized_attention", attention_pytorch)  # as on a GPU; the CPU's own breaks graphs
    model = core.wan(layers=layers or 1)
    keys = [f"diffusion_model.blocks.{block}" for block in range(layers)] or ["diffusion_model"]
    sigmas = schedule(model, steps=4)

    def acts(sigma: float, number: int) -> bool:
        return step_of(sigmas, sigma) < 2

    expected = core.sampled(core.by_hand(model, POWERS, (0,), acts), steps=4)
    graphs = {}
    for steps in ("all", "0.0-0.3"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        clone = _compiled(model, steps, is_first, keys)
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


def test_what_the_patch_adds_is_no_more_than_the_keys_that_it_multiplies(model: Any) -> None:
    """Added operations and bytes, counted: one multiplication per scaled key norm, nothing where it is off."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[tuple[str, int]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            is_new = isinstance(output, torch.Tensor) and not any(item.alias_info for item in func._schema.returns)
            self.made.append((str(func), output.nbytes if is_new else 0))
            return output

    products, added = {}, {}
    for name, patcher in {"plain": model, "off": aligned(model, branch="uncond"), "on": aligned(model)}.items():
        core.sampled(patcher, steps=2)
        with Counting() as counting:
            core.sampled(patcher, steps=2)
        products[name] = [size for kind, size in counting.made if "aten.mul" in kind]
        added[name] = len(counting.made), sum(size for _, size in counting.made)
    keys_bytes = (core.WORDS + core.PICTURE) * core.WIDTH * 4  # text and picture of one block, float32
    assert len(products["on"]) - len(products["plain"]) == 2 * 2 * 2  # steps × blocks × norms
    assert sum(products["on"]) - sum(products["plain"]) == 2 * 2 * keys_bytes
    assert products["off"] == products["plain"]
    more = {name: (count - added["plain"][0], size - added["plain"][1]) for name, (count, size) in added.items()}
    print(f"operations and bytes of new tensors more than without the node: {more}")
    assert more["on"][0] < 40 and more["on"][1] < 2 * 2 * keys_bytes + 64
