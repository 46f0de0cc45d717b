"""The door of a runner whose loop never calls the transformer: an attribute of its object, wrapped while attached.

The gate stands at the transformer as ever, and the door finds it there: a forward through the door is a Call like any
other, and the transformer's own forward, where the door runs it, is a part of it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from alignvid.attachment.gated import gate_at, through
from alignvid.errors import AttachmentError
from alignvid.host import Door, Runner

_ABSENT = object()


class OpenDoor:
    """Lies on a model in place of the attribute, and calls that with a Call in force."""

    def __init__(self, model: Any, runner: Runner, door: Door, meet_other: Callable[[nn.Module], None]) -> None:
        """Not yet on the model. `meet_other` is given a transformer without a gate that a call is about to run.

        Raises: AttachmentError if the model has no such attribute, or it is not known which transformer it runs.
        """
        name, kind = door.attribute, type(model).__name__
        if not callable(getattr(model, name, None)):
            raise AttachmentError(
                f"{kind} has no `{name}` to call, which the host {runner.name!r} describes as its door; correct "
                "Door.attribute (docs/hosts.md)."
            )
        self.model, self.runner, self.door, self.meet_other = model, runner, door, meet_other
        self.own = vars(model).get(name, _ABSENT)
        self.inner: Callable[..., Any] = getattr(model, name)
        if not door.transformer and len(self._transformers()) > 1:
            raise AttachmentError(
                f"{kind} has the transformers {', '.join(self._transformers())}, and the host {runner.name!r} does not "
                f"say which one a call of `{name}` runs; give Door.transformer the argument that holds it."
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the attribute gives, computed with a Call in force."""
        given = self._by_name(args, kwargs)
        transformer = self._transformer(given)
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

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if not args:
            return dict(kwargs)
        inner = self.inner.forward if isinstance(self.inner, nn.Module) else self.inner
        bound = inspect.signature(inner).bind_partial(*args, **kwargs)
        rest = [p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        return {**bound.arguments, **{k: v for name in rest for k, v in bound.arguments.get(name, {}).items()}}

    def _transformers(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self.runner.transformers(self.model).items() if part is not None}

    def _transformer(self, given: Mapping[str, Any]) -> nn.Module:
        """The one that a call runs. Raises: AttachmentError if the call does not hold it."""
        argument = self.door.transformer
        if not argument:
            return next(iter(self._transformers().values()))
        if not isinstance(given.get(argument), nn.Module):
            raise AttachmentError(
                f"`{self.door.attribute}` of {type(self.model).__name__} was called without a transformer as "
                f"`{argument}`, by which the host {self.runner.name!r} knows which one runs; detach, or correct "
                "Door.transformer."
            )
        return given[argument]

    def put_on(self) -> None:
        """Take the attribute's place."""
        object.__setattr__(self.model, self.door.attribute, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenDoor:
        """A copy of the model keeps a door, through which it is attached when it runs first."""
        memo[id(self)] = copied = object.__new__(OpenDoor)
        copied.model, copied.runner, copied.door = copy.deepcopy(self.model, memo), self.runner, self.door
        copied.meet_other = _pass_over
        copied.own = _ABSENT if self.own is _ABSENT else copy.deepcopy(self.own, memo)
        copied.inner = copy.deepcopy(self.inner, memo)
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
    if door.own is _ABSENT:
        vars(model).pop(attribute)
    else:
        object.__setattr__(model, attribute, door.own)
