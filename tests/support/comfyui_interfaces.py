"""ComfyUI's interfaces in small: a MODEL with its wrappers, their executor, a flow's sampling. No code of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class CONST:
    """A flow, by the name that ComfyUI's has, shifted by 3."""

    sigma_max = 1.0

    def percent_to_sigma(self, percent: float) -> float:
        return 3 * (1 - percent) / (1 + 2 * (1 - percent))


class Patcher:
    """A MODEL: the shared model, and wrappers of its own."""

    def __init__(
        self, model: nn.Module, wrappers: dict[str, dict[str, list[Callable[..., Any]]]] | None = None
    ) -> None:
        self.model, self.wrappers = model, wrappers or {}

    def clone(self) -> Patcher:
        copied = {kind: {key: list(found) for key, found in by_key.items()} for kind, by_key in self.wrappers.items()}
        return Patcher(self.model, copied)

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def get_wrappers(self, kind: str, key: str) -> list[Callable[..., Any]]:
        return self.wrappers.get(kind, {}).get(key, [])


class Executor:
    """Runs wrappers one within the other, as ComfyUI's WrapperExecutor."""

    def __init__(self, owner: Any, original: Callable[..., Any], wrappers: list[Callable[..., Any]]) -> None:
        self.class_obj, self.original, self.wrappers = owner, original, wrappers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.wrappers:
            return self.original(*args, **kwargs)
        first, *rest = self.wrappers
        return first(Executor(self.class_obj, self.original, rest), *args, **kwargs)


def wrapped(patcher: Patcher, kind: str, owner: Any, original: Callable[..., Any]) -> Executor:
    return Executor(owner, original, [one for found in patcher.wrappers.get(kind, {}).values() for one in found])
