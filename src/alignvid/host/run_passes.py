"""What one run has shown of its passes: which text is given to which, and how its batches are laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from alignvid.host.moment import Moment
from alignvid.host.texts import Texts


class Layout(NamedTuple):
    """How a run lays its branches out in a batch."""

    samples: int
    is_batched: bool


@dataclass
class RunPasses:
    """What one run has shown of its passes."""

    texts: Texts = field(default_factory=Texts)
    layouts: dict[str, Layout] = field(default_factory=dict)
    """By transformer."""
    first_step: tuple[int | None, float] | None = None
    step: tuple[int | None, float] | None = None
    order: int = 0
    """Of the forward that was read last among those of its step."""
    declared: tuple[str, ...] = ()
    """Branches in the batch that was read last, where the caller of a bare transformer gave them."""
    has_names: bool = False

    def count(self, moment: Moment) -> None:
        """Note a forward of a step, known by its index, or by its noise level where no schedule is known."""
        step = (moment.step_index, moment.noise_level)
        self.order = self.order + 1 if step == self.step else 0
        self.step = step
        self.first_step = self.first_step or step
