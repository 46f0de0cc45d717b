"""What is read of a call through the door of a runner: its arguments by name, and the transformer that it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from alignvid.errors import AttachmentError
from alignvid.host.runner import Door, Runner


class DoorCalls:
    """Reads the calls of one door of one model."""

    def __init__(self, model: Any, runner: Runner, door: Door) -> None:
        """The door is the model's attribute as it is now.

        Raises: AttachmentError if the model has no such attribute, or it is not known which transformer it runs.
        """
        name, kind = door.attribute, type(model).__name__
        if not callable(getattr(model, name, None)):
            raise AttachmentError(
                f"{kind} has no `{name}` to call, which the host {runner.name!r} describes as its door; correct "
                "Door.attribute (docs/hosts.md)."
            )
        self.model, self.runner, self.door = model, runner, door
        self.inner: Callable[..., Any] = getattr(model, name)
        if not door.transformer and len(self._transformers()) > 1:
            raise AttachmentError(
                f"{kind} has the transformers {', '.join(self._transformers())}, and the host {runner.name!r} does not "
                f"say which one a call of `{name}` runs; give Door.transformer the argument that holds it."
            )

    def by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call, as the door calls them."""
        if not args:
            return dict(kwargs)
        inner = self.inner.forward if isinstance(self.inner, nn.Module) else self.inner
        bound = inspect.signature(inner).bind_partial(*args, **kwargs)
        rest = [p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        return {**bound.arguments, **{k: v for name in rest for k, v in bound.arguments.get(name, {}).items()}}

    def transformer(self, given: Mapping[str, Any]) -> nn.Module:
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

    def _transformers(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self.runner.transformers(self.model).items() if part is not None}
