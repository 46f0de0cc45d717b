"""The door of a runner whose loop never calls the transformer, overheard while its model is observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from alignvid.attachment.doors import ABSENT
from alignvid.host import Door, Runner
from alignvid.host.door_calls import DoorCalls

Begin = Callable[[nn.Module, Mapping[str, Any]], None]
"""Is given the transformer of a forward and its arguments, as the family calls them."""


class HeardDoor:
    """Lies on a model in place of the attribute, and says when a forward begins and ends."""

    def __init__(self, model: Any, runner: Runner, door: Door, begin: Begin, end: Callable[[], None]) -> None:
        """Not yet on the model.

        Raises: AttachmentError if the model has no such attribute, or it is not known which transformer it runs.
        """
        self._calls = DoorCalls(model, runner, door)
        self._own = vars(model).get(door.attribute, ABSENT)
        self._begin, self._end = begin, end
        self._is_on = False

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Whose arguments it takes, for what is put over it."""
        return self._calls.inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the attribute gives, overheard."""
        if not self._is_on:  # another has put its own over it meanwhile
            return self._calls.inner(*args, **kwargs)
        given = self._calls.by_name(args, kwargs)
        self._begin(self._calls.transformer(given), self._calls.door.renamed(given))
        output = self._calls.inner(*args, **kwargs)
        self._end()
        return output

    def put_on(self) -> None:
        """Take the attribute's place."""
        self._is_on = True
        object.__setattr__(self._calls.model, self._calls.door.attribute, self)

    def take_off(self) -> None:
        """Give the model its own attribute back; one that another has put over it meanwhile is left."""
        self._is_on = False
        model, name = self._calls.model, self._calls.door.attribute
        if vars(model).get(name) is not self:
            return
        if self._own is ABSENT:
            vars(model).pop(name)
        else:
            object.__setattr__(model, name, self._own)
