"""The forwards that others have put on an instance: offloading, casting and caches wrap the one that they find.

accelerate keeps the wrapped forward in `_old_forward` and puts it back when its hook is removed; diffusers keeps one
per hook in the references of its registry. Innermost is the class's own forward as a bound method. Exchanging that one
method for another puts an effect inside whatever is wrapped around it, and it stays when the wrappers go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, NamedTuple

from torch import nn


class _Slot(NamedTuple):
    """A place that holds a forward of a module."""

    owner: dict[str, Any]
    name: str

    @property
    def forward(self) -> Any:
        return self.owner[self.name]


def forwards_on(module: nn.Module) -> Iterator[Any]:
    """Every forward that the instance holds, wrapped or outermost, in the places that are known."""
    return (slot.forward for slot in _slots(module))


def is_bound(forward: Any, function: Callable[..., Any]) -> bool:
    """Whether it is a function as a bound method."""
    return isinstance(forward, MethodType) and forward.__func__ is function


def rebind(module: nn.Module, old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Exchange one function for another, as the module's bound method, wherever the instance holds it.

    Returns: whether the instance holds the new one now.
    """
    for slot in _slots(module):
        if is_bound(slot.forward, old):
            slot.owner[slot.name] = MethodType(new, module)
    return any(is_bound(forward, new) for forward in forwards_on(module))


def unwrap(module: nn.Module, kind: type) -> None:
    """Take wrappers of a kind, which hold an `inner` forward, out of wherever the instance holds them."""
    for slot in _slots(module):
        if isinstance(slot.forward, kind):
            slot.owner[slot.name] = slot.forward.inner


def _slots(module: nn.Module) -> Iterator[_Slot]:
    own = vars(module)
    owners = [own, *map(vars, getattr(own.get("_diffusers_hook"), "_fn_refs", ()))]
    names = ("forward", "_old_forward", "original_forward")
    return (_Slot(owner, name) for owner in owners for name in names if owner.get(name) is not None)
