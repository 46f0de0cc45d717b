"""The gate of a copied transformer: it attaches anew when the copied pipeline runs.

A copy of a transformer is the plain model. A copy of a whole pipeline is attached as the original is, and detaches
alone; but while it is being copied it has no parts yet that a recipe could be laid over, so that has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from alignvid.recipe import Recipe


class AwaitedGate:
    """Stands at the door of a copied transformer until its first forward, or until it is detached."""

    def __init__(
        self, name: str, recipe: Recipe, pipeline: Any, hook_ids: Collection[int], attach: Callable[[Any], None]
    ) -> None:
        """Not yet at a door.

        Args:
            name: of the preset.
            recipe: what is attached to the original.
            pipeline: the copy.
            hook_ids: of the hooks that the original has on its other models, which were copied along.
            attach: attaches to the copy as the original is attached.
        """
        self.name = name
        self.recipe = recipe
        self.part_of = self
        self._pipeline = pipeline
        self._hook_ids = frozenset(hook_ids)
        self._attach = attach
        self._doors: list[tuple[Any, Callable[[Any], None]]] = []

    def stand_at(self, place: Any, leave: Callable[[Any], None]) -> None:
        """Note a transformer, or an object with a door of its own, that it stands at, and how it leaves."""
        self._doors.append((place, leave))

    def detach(self) -> None:
        """Leave every door; the copy is the plain model then."""
        while self._doors:
            place, leave = self._doors.pop()
            leave(place)
        for part in self._pipeline.components.values() if self._hook_ids else ():
            if isinstance(part, nn.Module):
                _drop_hooks(part, self._hook_ids)

    def attach(self) -> None:
        """Give way to gates of the copy's own."""
        self.detach()
        self._attach(self._pipeline)


def _drop_hooks(model: nn.Module, ids: frozenset[int]) -> None:
    """Take off hooks that were copied, of which there is no handle."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs, module._forward_hooks):
            for number in ids & hooks.keys():
                del hooks[number]
