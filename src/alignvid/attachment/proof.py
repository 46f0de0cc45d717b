"""Proof: by how much each attention's output is another one because of the gain, measured in one forward.

That a gain was multiplied does not say that it had an effect: keys of length zero, a stream of one token, or a block
that the rest of the model ignores change nothing. So the last forward in which the gain was on is run once more, and
each attention in it twice, with the gain and without, on the same input:

    change = |with − without| / |without|      (2-norms over the whole output)

That costs about one forward and one more pass through each attention that is acted on, when it is asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class SiteChange:
    """What the gain did to one attention."""

    site: str
    """Such as "transformer.blocks.3.cross"."""
    change: float | None
    """Relative change of its output; None if it did not run in that forward, as where a cache left it out."""


@dataclass(frozen=True)
class Proof:
    """What the gain changed, attention by attention, in one forward of each transformer. Printing it says all."""

    sites: tuple[SiteChange, ...]
    noise_level: float
    """Of that forward, from 1 (pure noise) to 0; the highest, if several transformers were measured."""

    @property
    def changes(self) -> tuple[float, ...]:
        """Relative changes of the attentions that ran."""
        return tuple(site.change for site in self.sites if site.change is not None)

    @property
    def has_changed_anything(self) -> bool:
        """Whether any attention gave another output."""
        return any(change > 0.0 for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {"noise_level": self.noise_level, "sites": [asdict(site) for site in self.sites]}

    def __str__(self) -> str:
        changes = self.changes
        where = f"in one forward at noise level {self.noise_level:.2f}"
        if not self.has_changed_anything:
            return f"AlignVid changed no output of {len(self.sites)} attentions {where} ({len(changes)} of them ran)"
        changed = sum(change > 0.0 for change in changes)
        most = max((site for site in self.sites if site.change is not None), key=lambda site: site.change or 0.0)
        return (
            f"AlignVid changed the output of {changed} of {len(self.sites)} attentions {where}: by "
            f"{min(changes):.2%} to {max(changes):.2%}, median {median(changes):.2%}, most in {most.site}"
        )
