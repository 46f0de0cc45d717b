"""What is known of a forward before it runs: the step, the samples that each part of a recipe acts on, the pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alignvid.attachment.part import Part
from alignvid.host.caches import Samples
from alignvid.host.moment import Moment
from alignvid.host.passes import PassReader
from alignvid.host.transformers import Host
from alignvid.recipe import Branch


class Reading(NamedTuple):
    """What is known of a forward; lists have a value for each part."""

    run: int
    noise_level: float
    samples: list[Samples]
    """Those that each part acts on."""
    asked: list[Samples]
    """Those in which a part that looks for words must find them."""
    branches: list[str]
    """The pass of guidance, for parts that need to know it."""

    @property
    def is_acting(self) -> bool:
        """Whether a part acts on a sample."""
        for chosen in self.samples:  # a plain loop: this is asked before every forward
            if chosen is True or (chosen is not False and any(chosen)):
                return True
        return False


class Reader:
    """Reads forwards of one transformer for the parts of a recipe."""

    def __init__(self, host: Host, parts: Sequence[Part]) -> None:
        """Nothing has been read."""
        self._host = host
        self._clocks = [part.clock for part in parts]
        self._parts: list[tuple[PassReader, Branch, bool, bool]] = [
            (part.passes, part.recipe.branch, part.reads_prompts, part.reads_branch) for part in parts
        ]
        none: list[Samples] = [False] * len(parts)
        self.nothing = Reading(0, 0.0, none, none, ["unknown"] * len(parts))
        """Of a forward that belongs to no step."""

    @property
    def announced(self) -> str | None:
        """Name of the cache context that the pipeline has entered in this thread."""
        return self._parts[0][0].announced

    def announce(self, name: str | None) -> None:
        """Note the cache context that the pipeline enters, or leaves."""
        for passes, *_ in self._parts:
            passes.announce(name)

    def moments(self, arguments: Mapping[str, Any]) -> list[Moment]:
        """Where a forward with these arguments lies in its run, as the clock of each part says."""
        return [clock.read(self._host, arguments) for clock in self._clocks]

    def read(self, moments: Sequence[Moment], arguments: Mapping[str, Any]) -> Reading:
        """What is known of the forward at these moments."""
        chosen: list[Samples] = []
        asked: list[Samples] = []
        branches: list[str] = []
        for (passes, branch, looks_for_words, asks_for_branch), moment in zip(self._parts, moments, strict=True):
            samples = passes.samples(branch, moment, self._host, arguments)
            if not moment.is_in_window:  # of the same shape as within, so that compiled code sees no difference
                samples = [False] * len(samples) if isinstance(samples, list) else False
            chosen.append(samples)
            here = (branch, samples, moment, self._host, arguments)
            asked.append(passes.prompted(*here) if looks_for_words and moment.is_in_window else False)
            branches.append(passes.running(*here) if asks_for_branch else "unknown")
        return Reading(moments[0].run, moments[0].noise_level, chosen, asked, branches)
