"""The cache context of diffusers that a pipeline enters around each pass of guidance, and so names the pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import nn

CACHE_CONTEXT = "cache_context"
"""The method of a transformer that makes one."""


@contextmanager
def announced(
    enter: Callable[..., AbstractContextManager[Any]], hear: Callable[[str | None], None], name: str, **fields: Any
) -> Iterator[None]:
    """A transformer's own cache context, whose name is heard while it is entered.

    Args:
        enter: makes the transformer's own.
        hear: is given the name, and None at the end.
        name: such as "cond".
        fields: further arguments of `enter`.
    """
    hear(name)
    try:
        with enter(name, **fields):
            yield
    finally:
        hear(None)


class HeardContexts:
    """Lies on an instance in place of its method, as long as one listens; a gated class has its own."""

    def __init__(self, transformer: nn.Module, hear: Callable[[str | None], None]) -> None:
        """Not yet there."""
        self._transformer, self._hear = transformer, hear
        self._earlier = vars(transformer).get(CACHE_CONTEXT)

    def put_on(self) -> None:
        """Hear each context of the transformer from now on; nothing if it has none."""
        if hasattr(self._transformer, CACHE_CONTEXT):
            object.__setattr__(self._transformer, CACHE_CONTEXT, partial(announced, self._enter, self._hear))

    def take_off(self) -> None:
        """Leave the transformer as it was."""
        if CACHE_CONTEXT in vars(self._transformer):
            object.__delattr__(self._transformer, CACHE_CONTEXT)
            if self._earlier is not None:
                object.__setattr__(self._transformer, CACHE_CONTEXT, self._earlier)

    def _enter(self, name: str, **fields: Any) -> AbstractContextManager[Any]:
        if self._earlier is not None:
            return self._earlier(name, **fields)
        return type(self._transformer).cache_context(self._transformer, name, **fields)  # type: ignore[attr-defined]
