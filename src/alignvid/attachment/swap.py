"""The mechanism: an effect on what goes into a module or comes out of it, without touching its weights.

The module's class is swapped in place for a subclass with the same name: weights, keys of the state dict and hooks
stay. Where others have put a forward on the instance (offloading does), it ends in the class's own, which is exchanged
for ours (forwards.py); where that way is not known, ours lies around it. The effect itself is a plain Python object,
invisible to `state_dict`, offloading, LoRA, copies and pickles.
"""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from alignvid.attachment.call import running_with, stack
from alignvid.attachment.effect import Effect, Installed, changed
from alignvid.attachment.forwards import forwards_on, is_bound, rebind, unwrap
from alignvid.errors import AttachmentError

_MAKE_THEIR_OUTPUT = frozenset(
    {
        "diffusers.models.normalization.FP32LayerNorm",
        "diffusers.models.normalization.MochiRMSNorm",
        "diffusers.models.normalization.RMSNorm",
        "torch.nn.modules.linear.Linear",
        "torch.nn.modules.normalization.LayerNorm",
        "torch.nn.modules.normalization.RMSNorm",
    }
)
"""Classes whose output is a new tensor each time that nothing else refers to, autograd included; by name, so that
attaching imports no library. An Identity gives what it was given, and what others have put on an instance may keep what
it gives."""


_PREFIX = "_alignvid_"
"""Of the attributes that an attachment puts on modules; copies leave them out."""

_ATTRIBUTE = f"{_PREFIX}effect"
_NONE: tuple[Effect | None, bool] = (None, False)


def install(installed: Installed) -> None:
    """Let an effect act on a module; at most one on each. Doing it again puts back what others have taken off."""
    module, effect, is_counted = installed
    effect.at_rest.is_in_force = False
    effect.put_on(module)
    if is_swapped(module):  # perhaps with another class over ours (FSDP's), which then is left
        rebind(module, base_of(type(module)).forward, type(module).forward)
    else:
        swapped = _affected_class(type(module))
        is_inside = rebind(module, type(module).forward, swapped.forward)
        if "forward" in vars(module) and not is_inside:
            _put_around(installed)
            return
        module.__class__ = swapped
    object.__setattr__(module, _ATTRIBUTE, (effect, is_counted))


def remove(installed: Installed) -> None:
    """Undo `install`: the class and the instance are as if it had not been called, whoever came meanwhile."""
    module, effect, _ = installed
    effect.at_rest.is_in_force = True
    effect.take_off(module)
    if (around := _arounds.pop(module, None)) is not None:
        around.effect = None
        unwrap(module, _Around)
    if base_of(type(module)) is not type(module):
        rebind(module, type(module).forward, base_of(type(module)).forward)
        module.__class__ = base_of(type(module))
    vars(module).pop(_ATTRIBUTE, None)


def is_installed(installed: Installed) -> bool:
    """Whether the effect is on its module still, as far as can be seen without running it."""
    module, effect, is_counted = installed
    around = _arounds.get(module)
    if around is not None:
        return around.effect is effect and any(forward is around for forward in forwards_on(module))
    if vars(module).get(_ATTRIBUTE) != (effect, is_counted) or not is_swapped(module):
        return False
    plain = base_of(type(module)).forward
    return plain is type(module).forward or not any(is_bound(forward, plain) for forward in forwards_on(module))


def same_named_subclass(base: type, members: Mapping[str, Any], *, equals_base: bool = False) -> type:
    """A subclass that saving, LoRA loading and messages take for its base; copies and pickles are of the base.

    `equals_base`: `==` and dictionaries take it for the base, too; diffusers' `from_pipe` compares classes so.
    """
    plain_reduce: Any = base.__reduce_ex__

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        return _without_ours(plain_reduce(self, protocol))

    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    kind = _equal_to_base(type(base)) if equals_base else type(base)
    return kind(base.__name__, (base,), {**names, "_alignvid_base": base, "__reduce_ex__": reduce, **members})


def is_swapped(module: nn.Module) -> bool:
    """Whether its class is one of ours, or another's over one of ours."""
    return hasattr(type(module), "_alignvid_base")


def base_of(swapped: type) -> type:
    """The class that a swapped one was made from; any other, such as FSDP's over a swapped one, is left as it is."""
    return vars(swapped).get("_alignvid_base", swapped)


_OF_ITS_OWN = ("__abstractmethods__", "_abc_impl")  # what Python sets when it makes a class


@cache
def _equal_to_base(metaclass: type) -> type:
    """A metaclass whose classes equal the one that they were made from, and make instances of that one.

    What is set on such a class is set on that one: cache-dit exchanges the call of the class of a pipeline.
    """
    plain_type: Any = metaclass

    def equals(swapped: Any, other: object) -> bool:
        return base_of(swapped) is (base_of(other) if isinstance(other, type) else other)

    def make(swapped: Any, *args: Any, **kwargs: Any) -> Any:
        plain = base_of(swapped)  # itself, if it is another's class over ours
        return plain(*args, **kwargs) if plain is not swapped else metaclass.__call__(swapped, *args, **kwargs)

    def set_on(swapped: Any, name: str, value: Any) -> None:
        plain_type.__setattr__(swapped if name in _OF_ITS_OWN else base_of(swapped), name, value)

    def delete_on(swapped: Any, name: str) -> None:
        plain_type.__delattr__(base_of(swapped), name)

    members = {
        "__setattr__": set_on,
        "__delattr__": delete_on,
        "__eq__": equals,
        "__hash__": lambda swapped: hash(base_of(swapped)),
        "__call__": make,
    }
    return type(f"{metaclass.__name__}EqualToBase", (metaclass,), members)


def _without_ours(reduced: Any) -> tuple[Any, ...]:
    """What `__reduce_ex__` gives, with the plain class in place of ours and without our attributes."""
    function, args, *rest = reduced
    function, args = _plain(function), tuple(map(_plain, args))
    if getattr(function, "__name__", "") == "__newobj__":  # pickle takes that one for the object's present class alone
        function, args = copyreg._reconstructor, (args[0], object, None)  # type: ignore[attr-defined]  # as protocol 1
    if rest and isinstance(rest[0], dict):
        rest[0] = {name: value for name, value in rest[0].items() if not name.startswith(_PREFIX)}
    return (function, args, *rest)


def _plain(value: Any) -> Any:
    return base_of(value) if isinstance(value, type) else value


class _Around:
    """An effect around a forward on the instance from which no way to the class's own is known."""

    def __init__(self, installed: Installed, inner: Callable[..., Any]) -> None:
        self.module = ref(installed.module)  # weak, so that a module may be the key under which this is kept
        self.effect: Effect | None = installed.effect
        self.is_counted = installed.is_counted
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        effect, module = self.effect, self.module()
        if effect is None or module is None or not _acts(effect, module, self.is_counted):
            return self.inner(*args, **kwargs)
        args, kwargs = effect.on_input(module, args, kwargs)
        return changed(effect, module, args, kwargs, self.inner(*args, **kwargs))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.inner, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (self.inner,)


_arounds: WeakKeyDictionary[nn.Module, _Around] = WeakKeyDictionary()


def _put_around(installed: Installed) -> None:
    module = installed.module
    if (earlier := _arounds.pop(module, None)) is not None:
        earlier.effect = None  # it may lie within what is there now: only one may act
        unwrap(module, _Around)
    around = _arounds[module] = _Around(installed, vars(module)["forward"])
    object.__setattr__(module, "forward", around)


def _acts(effect: Effect, module: nn.Module, is_counted: bool) -> bool:
    """Whether an effect acts on what its module is about to make; counted for the forward that is running.

    Raises: AttachmentError if no forward of the transformer is running.
    """
    if torch.compiler.is_dynamo_compiling():
        shared = effect.shared
        if not shared.is_in_force:
            _refuse_outside()
        shared.has_run = True  # compiled code does this each time, at no graph and no guard
        # In this order: a graph that has looked at `is_active` is compiled again when that changes.
        return effect.is_neutral_in_graph or shared.is_active
    calls = stack.calls
    call = calls[-1] if calls and effect in calls[-1].states else running_with(effect)
    if call is None:
        if not effect.at_rest.is_in_force:
            _refuse_outside()
        return False
    is_active = call.states[effect].is_active
    if is_counted:
        if call.met is not None:
            call.met.add(id(module))
        call.ran += call.counts_as
        if is_active:
            call.acted += call.counts_as
    return is_active


def _refuse_outside() -> None:
    raise AttachmentError(
        "A part of the model that AlignVid is attached to ran outside of a forward of the transformer, so that the "
        "step and the pass are not known. Call the transformer itself, not one of its blocks nor a forward that was "
        "taken from it; checkpoint by its own enable_gradient_checkpointing(); describe the host whose "
        "loop runs the blocks itself (docs/hosts.md); or detach first."
    )


@cache
def _affected_class(base: type[nn.Module]) -> type[nn.Module]:
    plain_forward = base.forward  # looked up here: some hosts' classes are opaque to torch.compile
    makes_its_output = f"{base.__module__}.{base.__qualname__}" in _MAKE_THEIR_OUTPUT

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # None: a copy, or another's wrapper kept this method beyond a detach
        effect, is_counted = getattr(self, _ATTRIBUTE, None) or _NONE
        if effect is None or not _acts(effect, self, is_counted):
            return plain_forward(self, *args, **kwargs)
        args, kwargs = effect.on_input(self, args, kwargs)
        output = plain_forward(self, *args, **kwargs)
        return effect.on_fresh_output(output) if makes_its_output else changed(effect, self, args, kwargs, output)

    # torch.compile takes every tensor size that it finds below a module of torch's own for a constant.
    return same_named_subclass(base, {"forward": forward, "__module__": __name__})
