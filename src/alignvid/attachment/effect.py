"""Effect: what acts on what goes into a module or comes out of it. swap.py puts one on a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Effect:
    """Does nothing; the base of what does. One object may serve the same kind of module in all blocks."""

    reads_token_counts = False
    """Whether the gate must count the tokens of each stream before a forward."""
    is_neutral_in_graph = True
    """Whether compiled code runs the effect when it is off too, as an operation that changes nothing. Then a window's
    edge costs no second graph; an expensive effect has two graphs instead."""

    def __init__(self) -> None:
        self.is_active = False

    def set_active(self, is_active: bool) -> None:
        """Switch on or off, for all blocks at once."""
        self.is_active = is_active

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only (batched classifier-free guidance)."""
        raise NotImplementedError

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note what the effect must know of the forward that is about to run; called outside compiled code."""

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with which the module shall run."""
        return args, kwargs

    def on_output(self, output: Any) -> Any:
        """What the module shall give in place of its output."""
        return output

    def on_fresh_output(self, output: Any) -> Any:
        """As `on_output`, where the module has just made its output and nobody else holds it: it may be written to."""
        return self.on_output(output)


class SwitchedEffect(Effect):
    """An effect that is blended with doing nothing by one factor per batch or per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.switch: Tensor = _OFF
        """1 where the effect acts, 0 where it does not; 0-dim, or one number per sample."""

    def set_active(self, is_active: bool) -> None:
        """Switch on or off, for all blocks and samples at once."""
        self.is_active = is_active
        self.switch = _ON if is_active else _OFF

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only."""
        self.is_active = any(is_active)
        self.switch = torch.tensor(is_active, dtype=torch.float32)

    def switch_like(self, values: Tensor) -> Tensor:
        """The switch, so shaped and placed that some values can be multiplied by it."""
        return self.switch if self.switch.ndim == 0 else by_sample(self.switch, values)


def by_sample(numbers: Tensor, values: Tensor) -> Tensor:
    """One number per sample, on the device of some values and broadcast over all of their axes but the first.

    Where the host makes each frame of a sample a sample of its own (Latte), they share its number. Values that are the
    same for all samples may have a batch of one.
    """
    numbers = numbers.repeat_interleave(max(1, len(values) // len(numbers)))
    return numbers.to(values.device).view(-1, *[1] * (values.ndim - 1))


class Installed(NamedTuple):
    """An effect and the module that it is for."""

    module: nn.Module
    effect: Effect


_ON, _OFF = (torch.tensor(value, dtype=torch.float32, device="cpu") for value in (1.0, 0.0))
"""0-dim tensors on the CPU multiply like Python floats on any device, without a sync and without changing the dtype."""
