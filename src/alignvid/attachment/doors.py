"""The door of a runner whose loop never calls the transformer: an attribute of its object, wrapped while attached.

The gate stands at the transformer as ever, and the door finds it there: a forward through the door is a Call like any
other, and the transformer's own forward, where the door runs it, is a part of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from alignvid.attachment.gated import gate_at, through
from alignvid.host import Door, Runner
from alignvid.host.door_calls import DoorCalls

ABSENT: Any = object()
"""Stands for an attribute that a model has by its class alone."""


class OpenDoor:
    """Lies on a model in place of the attribute, and calls that with a Call in force."""

    def __init__(self, model: Any, runner: Runner, door: Door, meet_other: Callable[[nn.Module], None]) -> None:
        """Not yet on the model. `meet_other` is given a transformer without a gate that a call is about to run.

        Raises: AttachmentError if the model has no such attribute, or it is not known which transformer it runs.
        """
        self.calls = DoorCalls(model, runner, door)
        self.model, self.door, self.meet_other = model, door, meet_other
        self.own = vars(model).get(door.attribute, ABSENT)
        self.inner = self.calls.inner

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Whose arguments it takes, for what is put over it."""
        return self.inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the attribute gives, computed with a Call in force."""
        given = self.calls.by_name(args, kwargs)
        transformer = self.calls.transformer(given)
        gate = gate_at(transformer)
        if gate is None:  # detached under another's wrapper, or a transformer that is not acted on
            self.meet_other(transformer)
            return self.inner(*args, **kwargs)
        call = gate.begin((id(self), "door"), (), self.door.renamed(given), partial(self._again, args, kwargs))
        if call is None:  # ours lies below another's wrapper, and once more over it
            return self.inner(*args, **kwargs)
        return through(gate, call, self._run, gate.host.transformer, args, kwargs)

    def _run(self, _: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def _again(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        return self.inner(*args, **kwargs)

    def put_on(self) -> None:
        """Take the attribute's place."""
        object.__setattr__(self.model, self.door.attribute, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenDoor:
        """A copy of the model keeps a door, through which it is attached when it runs first."""
        memo[id(self)] = copied = object.__new__(OpenDoor)
        copied.calls = calls = copy.copy(self.calls)
        copied.model = calls.model = copy.deepcopy(self.model, memo)
        copied.inner = calls.inner = copy.deepcopy(self.inner, memo)
        copied.door, copied.meet_other = self.door, _pass_over
        copied.own = ABSENT if self.own is ABSENT else copy.deepcopy(self.own, memo)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (self.inner,)


def _pass_over(transformer: nn.Module) -> None:
    """A copy has no gain yet, so that no transformer of it is another one."""


def close_door(model: Any, attribute: str) -> None:
    """Give a model its own attribute back; one that another has put over it meanwhile is left."""
    door = vars(model).get(attribute)
    if not isinstance(door, OpenDoor):
        return
    if door.own is ABSENT:
        vars(model).pop(attribute)
    else:
        object.__setattr__(model, attribute, door.own)
