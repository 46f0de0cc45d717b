"""The mechanism: an effect on what goes into a module or comes out of it, without touching its weights.

The module's class is swapped in place for a subclass with the same name: weights, keys of the state dict and hooks
stay. Where somebody else has put a forward on the instance (offloading does), a diffusers hook is used. The effect
itself is a plain Python object, invisible to `state_dict`, offloading and LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alignvid.host.versions import check_diffusers

check_diffusers()  # an old one lacks what is imported next

from diffusers.hooks import HookRegistry, ModelHook  # noqa: E402
from diffusers.models.normalization import FP32LayerNorm, MochiRMSNorm, RMSNorm  # noqa: E402

_MAKE_THEIR_OUTPUT = frozenset({nn.Linear, nn.LayerNorm, nn.RMSNorm, FP32LayerNorm, RMSNorm, MochiRMSNorm})
"""Classes whose output is a new tensor each time that nothing else refers to, autograd included. An Identity gives what
it was given, and what somebody else has put on an instance may keep what it gives."""
_HOOK_NAME = "alignvid_effect"
_ATTRIBUTE = "_alignvid_effect"


class Effect:
    """Does nothing; the base of what does. One object may serve the same kind of module in all blocks."""

    reads_token_counts = False
    """Whether the gate must count the tokens of each stream before a forward."""
    is_neutral_in_graph = True
    """Whether compiled code runs the effect when it is off too, as an operation that changes nothing. Then a window's
    edge costs no second graph; an expensive effect has two graphs instead."""

    def __init__(self) -> None:
        self.is_active = False

    def set_active(self, is_active: bool) -> None:
        """Switch on or off, for all blocks at once."""
        self.is_active = is_active

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only (batched classifier-free guidance)."""
        raise NotImplementedError

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note what the effect must know of the forward that is about to run; called outside compiled code."""

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with which the module shall run."""
        return args, kwargs

    def on_output(self, output: Any) -> Any:
        """What the module shall give in place of its output."""
        return output

    def on_fresh_output(self, output: Any) -> Any:
        """As `on_output`, where the module has just made its output and nobody else holds it: it may be written to."""
        return self.on_output(output)


class SwitchedEffect(Effect):
    """An effect that is blended with doing nothing by one factor per batch or per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.switch: Tensor = _OFF
        """1 where the effect acts, 0 where it does not; 0-dim, or one number per sample."""

    def set_active(self, is_active: bool) -> None:
        """Switch on or off, for all blocks and samples at once."""
        self.is_active = is_active
        self.switch = _ON if is_active else _OFF

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only."""
        self.is_active = any(is_active)
        self.switch = torch.tensor(is_active, dtype=torch.float32)

    def switch_like(self, values: Tensor) -> Tensor:
        """The switch, so shaped and placed that some values can be multiplied by it."""
        return self.switch if self.switch.ndim == 0 else by_sample(self.switch, values)


def by_sample(numbers: Tensor, values: Tensor) -> Tensor:
    """One number per sample, on the device of some values and broadcast over all of their axes but the first.

    Where the host makes each frame of a sample a sample of its own (Latte), they share its number. Values that are the
    same for all samples may have a batch of one.
    """
    numbers = numbers.repeat_interleave(max(1, len(values) // len(numbers)))
    return numbers.to(values.device).view(-1, *[1] * (values.ndim - 1))


class Installed(NamedTuple):
    """An effect and the module that it is for."""

    module: nn.Module
    effect: Effect


class Inserted(NamedTuple):
    """A neutral module where an attention has None, for an effect to act on."""

    parent: nn.Module
    name: str
    module: nn.Module

    def put_in(self) -> None:
        """Make it the parent's; it has no weights, so the state dict stays as it is."""
        setattr(self.parent, self.name, self.module)

    def take_out(self) -> None:
        """Give the parent its None back; doing it twice is fine."""
        if getattr(self.parent, self.name) is self.module:
            delattr(self.parent, self.name)
            setattr(self.parent, self.name, None)


def install(module: nn.Module, effect: Effect) -> None:
    """Let an effect act on a module; at most one on each."""
    if "forward" in vars(module):
        HookRegistry.check_if_exists_or_initialize(module).register_hook(_EffectHook(effect), _HOOK_NAME)
        return
    object.__setattr__(module, _ATTRIBUTE, effect)
    if not is_swapped(module):  # else somebody's class is over ours (FSDP's is): ours acts again
        module.__class__ = _affected_class(type(module))


def remove(module: nn.Module, effect: Effect) -> None:
    """Undo `install`: the class and the instance are as before."""
    effect.set_active(False)
    registry = getattr(module, "_diffusers_hook", None)
    if registry is not None and registry.get_hook(_HOOK_NAME) is not None:
        registry.remove_hook(_HOOK_NAME, recurse=False)
        _drop_traces(module)
        return
    module.__class__ = base_of(type(module))
    # Where somebody wrapped our forward or class meanwhile, it still reads the effect, now inert.
    is_ours_beneath = "forward" in vars(module) or is_swapped(module)
    if not is_ours_beneath:
        vars(module).pop(_ATTRIBUTE, None)


def remove_copies(model: nn.Module) -> None:
    """Undo what a module brought along that was copied while an effect was installed on the original (peft copies
    norms that are trained in full).
    """
    for module in model.modules():
        is_ours = base_of(type(module)) is not type(module)  # and nobody's class is over it
        if _ATTRIBUTE in vars(module) and is_ours and "forward" not in vars(module):
            module.__class__ = base_of(type(module))
            del vars(module)[_ATTRIBUTE]


def same_named_subclass(base: type, members: Mapping[str, Any]) -> type:
    """A subclass that saving, LoRA loading and messages take for its base."""
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**names, "_alignvid_base": base, **members})


def is_swapped(module: nn.Module) -> bool:
    """Whether its class is one of ours, or somebody's over one of ours."""
    return hasattr(type(module), "_alignvid_base")


def base_of(swapped: type) -> type:
    """The class that a swapped one was made from; any other, such as FSDP's over a swapped one, is left as it is."""
    return vars(swapped).get("_alignvid_base", swapped)


class _EffectHook(ModelHook):
    def __init__(self, effect: Effect) -> None:
        super().__init__()
        self.effect = effect

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self.effect.on_input(module, args, kwargs) if _acts(self.effect) else (args, kwargs)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return self.effect.on_output(output) if _acts(self.effect) else output


def _acts(effect: Effect) -> bool:
    # In this order: a graph that has looked at `is_active` is compiled again when that changes.
    return (effect.is_neutral_in_graph and torch.compiler.is_compiling()) or effect.is_active


@cache
def _affected_class(base: type[nn.Module]) -> type[nn.Module]:
    plain_forward = base.forward  # looked up here: some hosts' classes are opaque to torch.compile
    makes_its_output = base in _MAKE_THEIR_OUTPUT

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        effect = getattr(self, _ATTRIBUTE)
        if not _acts(effect):
            return plain_forward(self, *args, **kwargs)
        args, kwargs = effect.on_input(self, args, kwargs)
        output = plain_forward(self, *args, **kwargs)
        return effect.on_fresh_output(output) if makes_its_output else effect.on_output(output)

    return same_named_subclass(base, {"forward": forward})


def _drop_traces(module: nn.Module) -> None:
    """A registry without hooks, and the class's own forward that it leaves on the instance, would stay for ever.

    Later attachments would then take the slow path.
    """
    if not module._diffusers_hook.hooks:  # type: ignore[union-attr]  # the registry, by its user above
        del module._diffusers_hook
    if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
        del module.forward  # type: ignore[attr-defined]  # an instance attribute, checked above


_ON, _OFF = (torch.tensor(value, dtype=torch.float32, device="cpu") for value in (1.0, 0.0))
"""0-dim tensors on the CPU multiply like Python floats on any device, without a sync and without changing the dtype."""
