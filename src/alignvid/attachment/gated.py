"""The class of a transformer with a gate at its door, and how a model gets it and loses it again.

The gate sits in `__call__`, outside the compiled region, so that a compiled model meets only two values of an input: no
recompilation at a window's edge, no graph break; and in `forward`, for those who call that directly. The transformer's
class is swapped for a subclass of the same name; saving and LoRA loading see no difference. torch.compile's wrapper
object gets the same treatment where it is what the pipeline calls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache, partial, wraps
from typing import Any, cast

import torch
from torch import nn
from torch._dynamo.decorators import skip

from alignvid.attachment.awaited import AwaitedGate
from alignvid.attachment.call import Acting, Call, running_through
from alignvid.attachment.checkpoints import unbind_checkpoints
from alignvid.attachment.forwards import rebind
from alignvid.attachment.gate import Gate
from alignvid.attachment.refusals import EXPORT_PROBLEM, refuse_export
from alignvid.attachment.swap import base_of, is_swapped, same_named_subclass
from alignvid.errors import AttachmentError
from alignvid.host.contexts import CACHE_CONTEXT, announced
from alignvid.host.transformers import Host

_ATTRIBUTE = "_alignvid_gate"


def gate_of(host: Host) -> Gate | AwaitedGate | None:
    """The gate of what is attached to a transformer, or waits to be."""
    return vars(host.transformer).get(_ATTRIBUTE)


def refuse_attached(found: Iterable[Host]) -> None:
    """Raises: AttachmentError if a transformer carries an attachment."""
    for host in found:
        if (gate := gate_of(host)) is not None:
            raise AttachmentError(
                f"The {host.name} is already attached to, with {gate.name}. Detach that first: alignvid.detach(pipe)."
            )


def acting_on(host: Host) -> Acting | None:
    """How a transformer is acted on in the forward that is running in this thread; None if it runs as it is."""
    gate = gate_of(host)
    call = None if gate is None else running_through(gate)
    return None if call is None else call.acting


def take_over(host: Host) -> None:
    """Say that the forward that is running is not made, for an equal one was made earlier with the same gain."""
    gate = gate_of(host)
    if gate is not None and (call := running_through(gate)) is not None:
        call.is_taken_over = True


def install_gate(gate: Gate) -> None:
    """Put a gate before a transformer, and before torch.compile's wrapper of it."""
    modules = {id(module): module for module in (gate.host.transformer, gate.host.called)}
    for module in modules.values():
        if not is_swapped(module):  # else another's class is over ours, as in effects
            gated = _gated_class(type(module))
            rebind(module, type(module).forward, gated.forward)
            module.__class__ = gated  # first: the gated class works without a gate
        object.__setattr__(module, _ATTRIBUTE, gate)


def is_gated(gate: Gate) -> bool:
    """Whether a gate is before its transformer still."""
    return vars(gate.host.transformer).get(_ATTRIBUTE) is gate and is_swapped(gate.host.transformer)


def remove_gate(gate: Gate) -> None:
    """Undo `install_gate`: class and instance are as before."""
    gate.edges.forget_all()
    withdraw_gate(gate)


def withdraw_gate(gate: Gate) -> None:
    """As `remove_gate`, but the gate keeps what it knows of the running forwards, and nothing that they were given."""
    gate.forget_arguments()
    unbind_checkpoints(gate.host.transformer)
    for module in (gate.host.transformer, gate.host.called):
        if vars(module).get(_ATTRIBUTE) in (gate, None):
            _leave_door(module)


def gate_at(module: nn.Module) -> Any:
    """The gate before a module; a copy's own is put there first. None: torch.compile kept a method beyond a detach."""
    gate = vars(module).get(_ATTRIBUTE)
    if isinstance(gate, AwaitedGate):
        gate.attach()
        gate = vars(module).get(_ATTRIBUTE)
    return gate


def stand_before_copy(copied: nn.Module, awaited: AwaitedGate) -> None:
    """Put a gate before a copy of a transformer that waits for the copy of its pipeline."""
    copied.__class__ = _gated_class(type(copied))
    object.__setattr__(copied, _ATTRIBUTE, awaited)
    awaited.stand_at(copied, _leave_door)


def _leave_door(module: nn.Module) -> None:
    plain = base_of(type(module))
    rebind(module, type(module).forward, plain.forward)
    module.__class__ = plain
    vars(module).pop(_ATTRIBUTE, None)


def _copied(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """`copy.deepcopy` of a gated module: the plain model, which is attached again if its pipeline is copied with it."""
    make, args, state = cast(tuple[Any, Any, Any], self.__reduce_ex__(4)[:3])
    memo[id(self)] = copied = make(*args)
    copied.__setstate__(copy.deepcopy(state, memo))
    gate = vars(self).get(_ATTRIBUTE)
    if isinstance(gate, Gate):
        gate.part_of.follow(self, copied, memo)
    return copied


@skip  # as the frame that calls it
def through(
    gate: Any, call: Call, run: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run what lies behind the door with a Call in force."""
    try:
        output = run(module, *args, **kwargs)
        if gate.runs_twice:
            output = gate.completed(call, output, partial(run, module, *args, **kwargs))
    except BaseException:
        gate.abandon(call)
        raise
    gate.end(call)
    return output


@cache
def _gated_class(base: type[nn.Module]) -> type[nn.Module]:
    @skip  # this frame runs eagerly; what it calls is compiled. `torch.compiler.disable` has no words for torch.export
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate = gate_at(self)
        if gate is not None:
            refuse_export(gate.host)
        running = None if gate is None else gate.begin((id(self), "call"), args, kwargs)
        if running is None:  # no gate: torch.compile kept this bound method beyond a detach
            return base.__call__(self, *args, **kwargs)
        return through(gate, running, base.__call__, self, args, kwargs)

    call._torchdynamo_disable_msg = EXPORT_PROBLEM  # type: ignore[attr-defined]  # torch.export(strict=True) prints it

    @wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return base.forward(self, *args, **kwargs)
        gate = gate_at(self)
        outer = None if gate is None else running_through(gate)
        if gate is None or (outer is not None and outer.passes((id(self), "forward"))):
            return base.forward(self, *args, **kwargs)
        running = gate.begin((id(self), "forward"), args, kwargs)
        if running is None:
            return base.forward(self, *args, **kwargs)
        return through(gate, running, base.forward, self, args, kwargs)

    def cache_context(self: Any, name: str, **fields: Any) -> AbstractContextManager[Any]:
        gate, enter = gate_at(self), partial(getattr(base, CACHE_CONTEXT), self)
        return enter(name, **fields) if gate is None else announced(enter, gate.announce, name, **fields)

    members: dict[str, Any] = {"__call__": call, "forward": forward, "__deepcopy__": _copied}
    if hasattr(base, CACHE_CONTEXT):
        members[CACHE_CONTEXT] = cache_context
    return same_named_subclass(base, members, equals_base=True)
