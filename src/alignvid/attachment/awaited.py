"""The gate of a copied transformer: it attaches anew when the copied pipeline runs.

A copy of a transformer is the plain model. A copy of a whole pipeline is attached as the original is, and detaches
alone; but while it is being copied it has no parts yet that a recipe could be laid over, so that has to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from alignvid.recipe import Recipe


class AwaitedGate:
    """Stands at the door of a copied transformer until its first forward, or until it is detached."""

    def __init__(self, name: str, recipe: Recipe, pipeline: Any, attach: Callable[[Any], None]) -> None:
        """Not yet at a door.

        Args:
            name: of the preset.
            recipe: what is attached to the original.
            pipeline: the copy.
            attach: attaches to the copy as the original is attached.
        """
        self.name = name
        self.recipe = recipe
        self.part_of = self
        self._pipeline = pipeline
        self._attach = attach
        self._doors: list[tuple[nn.Module, Callable[[nn.Module], None]]] = []

    def stand_at(self, transformer: nn.Module, leave: Callable[[nn.Module], None]) -> None:
        """Note a transformer that it stands at, and how it leaves."""
        self._doors.append((transformer, leave))

    def detach(self) -> None:
        """Leave every door; the copy is the plain model then."""
        while self._doors:
            transformer, leave = self._doors.pop()
            leave(transformer)

    def attach(self) -> None:
        """Give way to gates of the copy's own."""
        self.detach()
        self._attach(self._pipeline)
