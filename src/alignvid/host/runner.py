"""Runner: who runs a model, as data: where its transformers, its door, its schedule and its passes are.

A runner for another host is a value of this class, in about 45 lines (docs/hosts.md); nothing else here knows it.
What a transformer itself is like is said by its family, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Door:
    """What a loop calls once per forward in place of the transformer: an attribute of the object that runs it."""

    attribute: str
    """Such as "model_fn"; it is wrapped on the object while attached."""
    transformer: str = ""
    """Argument that holds the transformer of a forward; empty where the object has one alone."""
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the family calls an argument, by what the door calls it; those left out have the same name."""

    def renamed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the door, as the family calls them."""
        return {self.names.get(name, name): value for name, value in arguments.items() if name != self.transformer}


def _own_scheduler(model: Any) -> Any:
    return getattr(model, "scheduler", None)


def nothing_known(*_: Any) -> None:
    """What a host answers that does not say it."""
    return None


def _no_levels(_: Any) -> list[float]:
    return []


@dataclass(frozen=True)
class Runner:
    """A kind of host. Functions are given the object that `attach` is given, here called the model."""

    name: str
    """Short name, for messages."""
    recognises: Callable[[Any], bool]
    """Whether it runs this model."""
    transformers: Callable[[Any], Mapping[str, nn.Module | None]]
    """Transformers that a model may run, by the attribute that holds each; None for one that is not loaded."""
    door: Door | None = None
    """What its loop calls; None for the transformers themselves."""
    scheduler: Callable[[Any], Any] = _own_scheduler
    """What holds the `timesteps` of the running loop, and may say its `step_index`; None while there is none."""
    levels: Callable[[Any, Any], list[float]] | None = None
    """Noise level of each step, from the model and its scheduler; None where timesteps are those that the family says
    its transformer is given."""
    default_levels: Callable[[Any], list[float]] = _no_levels
    """Noise levels of a model that has no scheduler and runs these if it is given none; mostly none."""
    passes: tuple[str, ...] = ("cond", "uncond")
    """Branches in the order in which a step runs them one by one, where nothing names them; empty if there is none."""
    pass_name: Callable[[Any, str, int], str | None] = nothing_known
    """What the model calls the pass, from the attribute of the transformer and the order of the forward in its step."""
    is_guided: Callable[[Any], bool | None] = nothing_known
    """Whether its next forward holds all branches in one batch, where the family says that it may; None if it does not
    say, and the batch must show it."""
    guidance_scale: Callable[[Any, str], float | None] = nothing_known
    """Scale of classifier-free guidance of the running step, from the model and the attribute of the transformer; None
    if it does not say."""
    guidance_strength: Callable[[Any, str], float | None] = nothing_known
    """By how much guidance multiplies what changes the conditional pass alone, s of U + s·(C − U), however it runs its
    passes; 1 without guidance. From the model and the attribute of the transformer; None if it does not say."""
    forget: Callable[[Any], None] | None = None
    """Empties a cache of the loop's own, so that the next forward computes everything; does nothing where it is off."""
    is_silent: bool = False
    """Whether it says neither step nor pass, so that the caller of `attach` must."""

    def forget_with(self, model: Any, family: Callable[[nn.Module], None] | None) -> Callable[[nn.Module], None] | None:
        """What empties the caches of the loop and those that the family knows; None if there is neither."""
        own = self.forget
        if own is None:
            return family

        def both(transformer: nn.Module) -> None:
            own(model)
            if family is not None:
                family(transformer)

        return both
