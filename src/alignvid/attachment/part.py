"""What a gate is made of: the modulations of a recipe on one transformer, and what is counted of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignvid.attachment.effect import Effect, Installed
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import SiteChange
from alignvid.host.clock import StepClock
from alignvid.host.passes import PassReader
from alignvid.recipe import Recipe


@dataclass
class Counts:
    """What a gate has counted. An attachment keeps these alone when it is detached, or its model is gone."""

    forwards: int = 0
    """Forwards that have begun."""
    active_forwards: int = 0
    """Forwards in which the gain was on."""
    acted: int = 0
    """Times that the keys of an attention were multiplied; see `Gate.end`."""
    found: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """Where chosen words were found last: positions among the tokens of each text encoder."""
    guidance: float | None = None
    """By how much guidance multiplied in the last forward whose gains share with it; None where none did, or it is not
    known."""
    proved: tuple[list[SiteChange], float] | None = None
    """What a proof found in the last run that was proved, and at which noise level."""


@dataclass
class RunFacts:
    """What a gate has found in one run; two may take turns, in two threads."""

    is_looked_at: bool = False
    """Whether all norms were looked at, as they are once a run."""
    has_acted: bool = False
    met: set[int] = field(default_factory=set)
    """Modules that stand for their attention and ran in its first step with the gain, by id."""
    has_seen_all: bool = False
    """Whether it was looked at which attentions run in a step with the gain, as it is once a run."""
    has_met_tokens: bool = False
    has_seen_reference: bool = False
    """Whether it was looked at if the channels that are acted on hold a reference image."""
    has_proved: bool = False


@dataclass(frozen=True)
class Part:
    """One modulation of a recipe, on one transformer."""

    recipe: Recipe
    """What is in force: one modulation, with its blocks, window and branch."""
    installed: Sequence[Installed]
    """Its effects, each on the module that it is for."""
    placements: Sequence[Placement]
    """Key norms and their gains; none if it acts on no keys."""
    clock: StepClock
    """Knows the step, and whether it lies in the window."""
    passes: PassReader
    """Knows the CFG branch."""

    @property
    def reads_prompts(self) -> bool:
        """Whether it must know the tokens of prompts."""
        return any(effect.reads_prompts for effect in self.effects)

    @property
    def reads_branch(self) -> bool:
        """Whether it must know the pass of guidance."""
        return any(effect.reads_branch for effect in self.effects)

    @property
    def effects(self) -> list[Effect]:
        """Each once."""
        return list({id(item.effect): item.effect for item in self.installed}.values())


class Order(threading.local):
    """Which forward of its step one is, as one thread sees it."""

    def __init__(self) -> None:
        self.step: object = None
        self.count = 0

    def of(self, step: object) -> int:
        """0 for the first forward of a step, 1 for the second …"""
        self.count = self.count + 1 if step == self.step else 0
        self.step = step
        return self.count
