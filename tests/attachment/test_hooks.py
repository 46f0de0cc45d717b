"""Other people's hooks come and go, in every order: the gain acts, and detaching leaves the model as if never attached.

Each sequence of operations is also done to a twin that alignvid never sees. Its output, with its keys scaled by hooks
of this test, is what the attached model must give, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from itertools import permutations
from types import MethodType
from typing import Any

import accelerate
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.host.sites import key_norms
from alignvid.host.transformers import hosts
from five import BUILDERS
from loras import lora_of
from offloading import in_groups_of_leaves
from pipelines import generate

GAIN = 1.5
RECIPE = Recipe(Scalar(GAIN, {"*.*": 1.0}), BlockSet.of("all"), StepWindow.all())
FAMILIES = ("wan_t2v", "hunyuan_t2v")
"""Cross-attention, and joint attention."""


def sequentially(pipe: DiffusionPipeline) -> None:
    """As `enable_sequential_cpu_offload`, which takes other hooks off first, and refuses this machine."""
    pipe.remove_all_hooks()
    accelerate.cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
    pipe.offload = sequentially


def as_a_whole(pipe: DiffusionPipeline) -> None:
    """As `enable_model_cpu_offload`."""
    pipe.remove_all_hooks()
    accelerate.cpu_offload_with_hook(pipe.transformer, execution_device=torch.device("cpu"))
    pipe.offload = as_a_whole


def cast(pipe: DiffusionPipeline) -> None:
    """Its hooks, with types that change no number."""
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float32, compute_dtype=torch.float32)


def remove_all_hooks(pipe: DiffusionPipeline) -> None:
    pipe.remove_all_hooks()
    pipe.offload = None


def unhook_by_hand(pipe: DiffusionPipeline) -> None:
    accelerate.hooks.remove_hook_from_module(pipe.transformer, recurse=True)
    pipe.offload = None


def load_lora(pipe: DiffusionPipeline) -> None:
    """As `load_lora_weights`, which takes an offload off meanwhile."""
    offload = getattr(pipe, "offload", None)
    pipe.remove_all_hooks()
    state = {f"transformer.{key}": value for key, value in lora_of(pipe.transformer, 0).items()}
    pipe.transformer.load_lora_adapter(state, adapter_name="first")
    if offload is not None:
        offload(pipe)


def unload_lora(pipe: DiffusionPipeline) -> None:
    pipe.transformer.unload_lora()


def attach(pipe: DiffusionPipeline) -> None:
    """Or attach again; on the twin nothing."""
    if not hasattr(pipe, "is_twin"):
        alignvid.detach(pipe)
        alignvid.attach(pipe, RECIPE)


OPERATIONS: dict[str, Callable[[DiffusionPipeline], None]] = {
    "sequential": sequentially,
    "model": as_a_whole,
    "leaves": in_groups_of_leaves,
    "cast": cast,
    "remove_all_hooks": remove_all_hooks,
    "unhook": unhook_by_hand,
    "load": load_lora,
    "unload": unload_lora,
    "attach": attach,
}


def orders(length: int) -> list[tuple[str, ...]]:
    """Every order of so many other operations with attaching somewhere among them."""
    return [
        (*names[:place], "attach", *names[place:])
        for names in permutations([name for name in OPERATIONS if name != "attach"], length)
        for place in range(length + 1)
    ]


COME_AND_GO = [
    (come, "attach", go) for come in ("sequential", "model", "leaves") for go in ("remove_all_hooks", "unhook")
]
ORDERS = [(family, order) for family in FAMILIES for order in orders(1)] + [("wan_t2v", it) for it in COME_AND_GO]
SLOW = [(family, order) for family in FAMILIES for order in orders(2) if (family, order) not in ORDERS]


@cache
def built(family: str) -> tuple[DiffusionPipeline, dict[str, Any]]:
    """A pipeline, and what its transformer is given in the first forward."""
    pipe, call = BUILDERS[family]()
    given: dict[str, Any] = {}
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, kwargs: given.update(kwargs), with_kwargs=True)
    generate(pipe, call | {"num_inference_steps": 1})
    handle.remove()
    return pipe, given


def pipeline_of(family: str, *, is_twin: bool = False) -> DiffusionPipeline:
    pipe, _ = built(family)
    fresh = type(pipe)(**pipe.components | {"transformer": copy.deepcopy(pipe.transformer), "vae": None})
    if is_twin:
        fresh.is_twin = True
    return fresh


def forward(pipe: DiffusionPipeline, family: str) -> Tensor:
    with torch.no_grad():
        return pipe.transformer(**built(family)[1])[0]


def with_scaled_keys(pipe: DiffusionPipeline, family: str) -> Tensor:
    """By forward hooks on every key norm, written here."""
    norms = {id(location.norm): location.norm for location in key_norms(hosts(pipe)[0], pipe)}
    hooks = [norm.register_forward_hook(lambda module, args, keys: keys * GAIN) for norm in norms.values()]
    scaled = forward(pipe, family)
    for hook in hooks:
        hook.remove()
    return scaled


def state_of(transformer: nn.Module) -> list[tuple[int, set[str], object]]:
    """Class and attributes of every module, and the function of a bound forward; by identity, for ours equal theirs."""
    return [
        (id(type(module)), set(vars(module)), getattr(vars(module).get("forward"), "__func__", None))
        for module in transformer.modules()
    ]


def check(family: str, order: tuple[str, ...]) -> None:
    pipe, twin = pipeline_of(family), pipeline_of(family, is_twin=True)
    for name in order:
        error = problem_with(OPERATIONS[name], twin)
        assert problem_with(OPERATIONS[name], pipe) == error  # diffusers' own refusal, if any, is the same
    assert torch.equal(forward(pipe, family), with_scaled_keys(twin, family))
    alignvid.detach(pipe)
    assert state_of(pipe.transformer) == state_of(twin.transformer)
    assert torch.equal(forward(pipe, family), forward(twin, family))
    for either in (pipe, twin):
        either.remove_all_hooks()
    assert torch.equal(forward(pipe, family), forward(twin, family))


def problem_with(operation: Callable[[DiffusionPipeline], None], pipe: DiffusionPipeline) -> str:
    """What diffusers or accelerate refuses, such as a second kind of offloading."""
    try:
        operation(pipe)
    except (ValueError, RuntimeError, KeyError, NotImplementedError, ImportError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize(
    ("family", "order"), ORDERS, ids=lambda value: value if isinstance(value, str) else ",".join(value)
)
@pytest.mark.contract(
    "hooks",
    done="attach, offload, cast, LoRA and their removal in any order of three",
    guaranteed="the gain acts; detaching leaves class, attributes and output as if never attached",
)
def test_the_gain_acts_in_any_order_and_detaching_leaves_no_trace(family, order):
    check(family, order)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "order"), SLOW, ids=lambda value: value if isinstance(value, str) else ",".join(value)
)
def test_the_gain_acts_in_longer_orders(family, order):
    check(family, order)


def a_forward_of_its_own(module: nn.Module) -> None:
    """From which no way leads to the class's own: a fused kernel, say."""
    object.__setattr__(module, "forward", lambda hidden: torch.nn.functional.layer_norm(hidden, hidden.shape[-1:]))


def a_wrapper_that_keeps_what_it_found(module: nn.Module) -> None:
    found = module.forward
    object.__setattr__(module, "forward", lambda hidden: 0.5 * found(hidden))


@pytest.mark.parametrize("wrap", [a_forward_of_its_own, a_wrapper_that_keeps_what_it_found])
def test_a_gain_lies_around_a_forward_of_which_nothing_is_known(wrap):
    pipe, twin = pipeline_of("wan_t2v"), pipeline_of("wan_t2v")
    for either in (pipe, twin):
        for block in either.transformer.blocks:
            wrap(block.attn2.norm_k)
    plain = forward(twin, "wan_t2v")
    for _ in range(2):
        with alignvid.attach(pipe, RECIPE):
            assert torch.equal(forward(pipe, "wan_t2v"), with_scaled_keys(twin, "wan_t2v"))
        assert torch.equal(forward(pipe, "wan_t2v"), plain)
    assert not torch.equal(plain, with_scaled_keys(twin, "wan_t2v"))


def test_a_wrapper_that_keeps_an_attached_forward_acts_without_the_gain_after_detaching():
    pipe, twin = pipeline_of("wan_t2v"), pipeline_of("wan_t2v")
    alignvid.attach(pipe, RECIPE)
    for either in (pipe, twin):
        for block in either.transformer.blocks:
            a_wrapper_that_keeps_what_it_found(block.attn2.norm_k)
    assert torch.equal(forward(pipe, "wan_t2v"), with_scaled_keys(twin, "wan_t2v"))
    alignvid.detach(pipe)
    assert torch.equal(forward(pipe, "wan_t2v"), forward(twin, "wan_t2v"))
    with alignvid.attach(pipe, RECIPE):
        assert torch.equal(forward(pipe, "wan_t2v"), with_scaled_keys(twin, "wan_t2v"))


def the_plain_forward_on_the_instance(norm: nn.Module) -> None:
    norm.forward = MethodType(type(norm).__mro__[1].forward, norm)  # the class's own, below ours


def the_class_alone(norm: nn.Module) -> None:
    norm.__class__ = type(norm).__mro__[1]


@pytest.mark.parametrize("take_off", [the_plain_forward_on_the_instance, the_class_alone])
@pytest.mark.contract(
    "hooks",
    done="another takes the effect off its norm",
    guaranteed="it is put back when the next run begins",
)
def test_an_effect_that_was_taken_off_its_norm_is_put_back_at_the_next_run(take_off):
    pipe, call = BUILDERS["wan_t2v"]()
    plain = generate(pipe, call)
    alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call)
    for block in pipe.transformer.blocks:
        take_off(block.attn2.norm_k)
    assert torch.equal(generate(pipe, call), expected)
    alignvid.detach(pipe)
    assert torch.equal(generate(pipe, call), plain)


def test_another_class_over_the_gate_is_said_on_detaching():
    pipe = pipeline_of("wan_t2v")
    plain = forward(pipe, "wan_t2v")
    attachment = alignvid.attach(pipe, RECIPE)
    pipe.transformer.__class__ = type(pipe.transformer).__mro__[1]
    with pytest.warns(UserWarning, match="has acted on nothing: another class was given to the transformer"):
        attachment.detach()
    assert torch.equal(forward(pipe, "wan_t2v"), plain)


def test_another_transformer_after_a_run_is_said_in_print_at_the_next_attach_and_on_detaching():
    pipe, call = BUILDERS["wan_t2v"]()
    attachment = alignvid.attach(pipe, RECIPE)
    generate(pipe, call)
    assert "another one" not in str(attachment)
    first, pipe.transformer = pipe.transformer, copy.deepcopy(pipe.transformer)
    with pytest.warns(UserWarning, match="does not act in this run"):
        plain = generate(pipe, call)
    assert "acts no longer: the pipeline's `transformer` is another one" in str(attachment)
    with pytest.warns(UserWarning, match="is in force on a transformer that this pipeline has no longer"):
        second = alignvid.attach(pipe, RECIPE)
    with pytest.warns(UserWarning, match="acts no longer: the pipeline's `transformer` is another one than when"):
        alignvid.detach(pipe)
    assert not attachment.is_attached and not second.is_attached
    pipe.transformer = first
    assert torch.equal(generate(pipe, call), plain)


def test_a_transformer_that_was_let_go_after_a_run_is_no_other_one():
    pipe, call = BUILDERS["wan_t2v"]()
    attachment = alignvid.attach(pipe, RECIPE)
    generate(pipe, call)
    pipe.transformer = None
    attachment.detach()
    assert attachment.acted_count


def traced_by_jit(transformer: nn.Module, given: dict[str, Any]) -> Any:
    states = given["hidden_states"]
    return torch.jit.trace(lambda given_states: transformer(**given | {"hidden_states": given_states})[0], (states,))


def traced_by_fx(transformer: nn.Module, given: dict[str, Any]) -> Any:
    return make_fx(lambda: transformer(**given)[0])()


TRACERS = {
    "torch.export": lambda transformer, given: torch.export.export(transformer, (), given),
    "torch.export, strict": lambda transformer, given: torch.export.export(transformer, (), given, strict=True),
    "torch.jit.trace": traced_by_jit,
    "make_fx": traced_by_fx,
}


@pytest.mark.filterwarnings("ignore:.torch.jit.trace.* is deprecated")
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.parametrize(
    "tracer", [pytest.param(name, marks=pytest.mark.slow if "strict" in name else ()) for name in TRACERS]
)
@pytest.mark.contract(
    "acted",
    done="`torch.export`, `torch.jit.trace` or `make_fx` of an attached model",
    refused="refused: detach, export, attach again",
)
def test_tracing_an_attached_transformer_says_to_detach(tracer):
    pipe = pipeline_of("wan_t2v")
    plain, (_, given) = forward(pipe, "wan_t2v"), built("wan_t2v")
    alignvid.attach(pipe, RECIPE)
    with pytest.raises(Exception, match=r"detach with alignvid\.detach, export, and attach again"):
        TRACERS[tracer](pipe.transformer, given)
    alignvid.detach(pipe)
    assert torch.equal(forward(pipe, "wan_t2v"), plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("modulation", [RECIPE.modulation, alignvid.Energy(GAIN)], ids=["scalar", "energy"])
@pytest.mark.contract(
    "hooks",
    done="attached within `torch.inference_mode()`, and trained outside of it",
    guaranteed="gradients as if attached outside",
)
def test_what_is_attached_in_inference_mode_can_be_trained(family, modulation):
    def gradient(is_within: bool) -> Tensor:
        pipe = pipeline_of(family)
        with torch.inference_mode(is_within):
            alignvid.attach(pipe, Recipe(modulation, BlockSet.of("all"), StepWindow.all()))
        latents = built(family)[1]["hidden_states"].clone().requires_grad_()
        pipe.transformer(**built(family)[1] | {"hidden_states": latents})[0].sum().backward()
        assert latents.grad is not None
        return latents.grad

    assert torch.equal(gradient(True), gradient(False))
