"""Other transformers that come into a pipeline after attaching: they run without a gain, and that is said when they do.

The pipeline's class is swapped for one of the same name that sees what is set (`pipe.transformer = other`). A hook on
the other transformer speaks at its first forward, and is gone with the attachment, or when the first one is put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from weakref import WeakSet, ref

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.swap import base_of, same_named_subclass
from alignvid.host.contract import Contract
from alignvid.host.runner import Runner

_ATTRIBUTE = "_alignvid_others"


class Others:
    """Notices transformers of one pipeline that are none of those with a gain.

    The pipeline holds it, and it holds no transformer: one that was taken out may be freed.
    """

    def __init__(
        self, name: str, model: Any, runner: Runner, acted_on: Mapping[str, nn.Module], contract: Contract
    ) -> None:
        """Not watching yet.

        Args:
            name: of the preset, for messages.
            model: the pipeline, or None for a bare transformer, of which there is no other.
            runner: describes it.
            acted_on: the transformers with a gain, by attribute.
            contract: hears of a transformer without a gain that is about to run.
        """
        self._name, self._model, self._contract = name, model, contract
        self._acted_on = {name: ref(module) for name, module in acted_on.items()}
        present = {} if model is None else runner.transformers(model)
        self._left_out = {name for name, part in present.items() if part is not None} - set(acted_on)
        """Were there at first, and have nothing of the recipe."""
        self._watched = set(present) - self._left_out
        self._hooks: dict[str, RemovableHandle] = {}
        self._said_of: WeakSet[nn.Module] = WeakSet()

    @property
    def is_watching(self) -> bool:
        """Whether it is on the pipeline."""
        return self._model is not None and watch_of(self._model) is self

    def watch(self) -> None:
        """See what is set on the pipeline from now on; in place of what an earlier attachment left there.

        One whose class cannot be exchanged, for it has slots, is not watched; another transformer is said on detaching.
        """
        model = self._model
        if model is None:
            return
        try:
            if (earlier := watch_of(model)) is not None:
                earlier.leave()
            model.__class__ = _watched_class(type(model))
            object.__setattr__(model, _ATTRIBUTE, self)
        except (TypeError, AttributeError):
            return

    def leave(self) -> None:
        """Undo `watch`; doing it twice is fine."""
        while self._hooks:
            self._hooks.popitem()[1].remove()
        if self.is_watching:
            del vars(self._model)[_ATTRIBUTE]
            if _is_watched(type(self._model)):
                self._model.__class__ = base_of(type(self._model))
        self._model = None

    def detach(self) -> None:
        """Undo `watch` where the transformers with the gain were taken out and freed, and say so."""
        self.leave()
        self._contract.warn("detached late", f"AlignVid {self._name} acts no longer: {TAKEN_OUT}.")

    def see(self, name: str) -> None:
        """Note that an attribute of the pipeline was set."""
        if name not in self._watched:
            return
        if name in self._hooks:
            self._hooks.pop(name).remove()
        present = getattr(self._model, name, None)
        own = [module for item in self._acted_on.values() if (module := item()) is not None]
        if isinstance(present, nn.Module) and not any(holds(present, module) for module in own):
            hook: Any = _AtFirstForward(self, name)
            self._hooks[name] = present.register_forward_pre_hook(hook)

    def meet_at(self, name: str, transformer: nn.Module) -> None:
        """As `meet`, for what was set as an attribute; its hook is not needed then, unless that was an error."""
        self.meet(transformer)
        if name in self._hooks:
            self._hooks.pop(name).remove()

    def meet(self, transformer: nn.Module) -> None:
        """Note that a transformer without a gate is about to run: say so once, unless the recipe has nothing for it."""
        if self._model is None or transformer in self._said_of:
            return
        if not any(getattr(self._model, name, None) is transformer for name in self._left_out):
            self._contract.warn(
                "another transformer",
                f"AlignVid {self._name} does not act in this run: it runs another {type(transformer).__name__} than "
                "the one that was in the pipeline when the gain was attached. Detach, and attach with this one in the "
                "pipeline.",
            )
            self._said_of.add(transformer)


TAKEN_OUT = "the transformer that the gain was attached to is in the pipeline no longer"


def watch_of(model: Any) -> Others | None:
    """What watches a pipeline."""
    return getattr(model, "__dict__", {}).get(_ATTRIBUTE)


class _AtFirstForward:
    """A hook before the forwards of another transformer; pickles and copies of that one do nothing."""

    def __init__(self, others: Others, name: str) -> None:
        self._others, self._name = ref(others), name

    def __call__(self, module: nn.Module, args: Any) -> None:
        others = self._others()
        if others is not None:
            _meet_at(others, self._name, module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_a_copy, ()


_meet_at: Any = torch.compiler.disable(Others.meet_at)
"""In eager code, for that one may be compiled as a whole, with its hooks."""


def _in_a_copy() -> Any:
    return _do_nothing


def _do_nothing(module: nn.Module, args: Any) -> None:
    """In place of a hook that was copied."""


def holds(present: Any, transformer: nn.Module) -> bool:
    """Whether what is in the pipeline is the transformer or a wrapper of it, such as torch.compile's."""
    return isinstance(present, nn.Module) and any(module is transformer for module in present.modules())


def _is_watched(kind: type) -> bool:
    return base_of(kind) is not kind


@cache
def _watched_class(base: type) -> type:
    plain: Any = base.__setattr__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        plain(self, name, value)
        others = vars(self).get(_ATTRIBUTE)
        if others is not None:
            others.see(name)

    return same_named_subclass(base, {"__setattr__": set_attribute}, equals_base=True)
