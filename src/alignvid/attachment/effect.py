"""Effect: what acts on what goes into a module or comes out of it. swap.py puts one on a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from alignvid.attachment.call import running_with
from alignvid.models.family import ReferenceChannels


class State:
    """What one effect knows of one forward: whether it acts, and how many tokens each stream has."""

    def __init__(self) -> None:
        """Inactive, without counts."""
        self.is_active = False
        self.is_in_force = True
        """Whether a forward has it; False for what an installed effect holds between forwards."""
        self.has_run = False
        """Whether compiled code met the effect in this forward; eager code is counted by the call."""
        self._counts: Mapping[str, int] = {}
        self._sizes: Mapping[str, Tensor] = {}

    def set_token_counts(self, counts: Mapping[str, int]) -> None:
        """Tokens of each stream; one stream of a norm may be missing."""
        self._counts = counts
        self._sizes = {stream: _of_size(count) for stream, count in counts.items()}

    def tokens_in(self, stream: str) -> int | None:
        """Tokens of a stream; None if it was not counted."""
        # Compiled code reads it as the size of a tensor: a plain number would be a graph for each value.
        if torch.compiler.is_dynamo_compiling():
            return self._sizes[stream].shape[0] if stream in self._sizes else None
        return self._counts.get(stream)

    def __str__(self) -> str:
        return str(dict(self._counts))


class Effect:
    """Does nothing; the base of what does. One object may serve the same kind of module in all blocks.

    What it knows of the forward that is running is `now`; of the model it holds only what stays the same.
    """

    state_type: ClassVar[type[State]] = State
    """What its `now` is."""
    reads_token_counts = False
    """Whether the gate must count the tokens of each stream before a forward."""
    reads_prompts = False
    """Whether the gate must watch the text encoders, and say which samples of a forward are prompts."""
    reads_branch = False
    """Whether it must know which pass of guidance a forward is; then its state has a `branch`."""
    reads_guidance = False
    """Whether it asks for the scale of guidance; then it reads the branch, and its state has a `guidance`."""
    runs_twice = False
    """Whether it may ask for the same forward without it, to combine both; then it has `needs_another` and `combined`,
    and reads the branch."""
    reference: ReferenceChannels | None = None
    """The channels of the transformer's input that it acts on, if it is these."""
    is_neutral_in_graph = True
    """Whether compiled code runs the effect when it is off too, as an operation that changes nothing. Then a window's
    edge costs no second graph; an expensive effect has two graphs instead."""

    def __init__(self) -> None:
        self.at_rest: State = self.idle()
        """What it holds between forwards."""
        self.shared = self.at_rest
        """What compiled code reads, and an effect outside of every forward."""

    @property
    def now(self) -> Any:
        """The state of the forward that is running in this thread."""
        if torch.compiler.is_dynamo_compiling():
            return self.shared
        call = running_with(self)
        return self.shared if call is None else call.states[self]

    @property
    def must_prepare_idle(self) -> bool:
        """Whether a forward in which it is off must be prepared for; else the state `idle` is all that it needs."""
        overrides = type(self).prepare is not Effect.prepare
        return overrides or self.reads_token_counts or self.reads_prompts or self.runs_twice

    def idle(self) -> State:
        """The state of a forward in which the effect is off."""
        return self.state_type()

    def needs_another(self) -> bool:
        """Whether the forward that has run must run without this effect, too."""
        return False

    def combined(self, output: Tensor, without: Tensor) -> Tensor:
        """What the transformer is to give, from its outputs with and without this effect."""
        return output

    def set_active(self, is_active: bool) -> None:
        """Switch on or off in this forward, for all blocks at once."""
        self.now.is_active = is_active

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only (batched classifier-free guidance)."""
        self.now.is_active = any(is_active)

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note what the effect must know of the forward that is about to run; called outside compiled code."""

    def learn(self, pipeline: Any) -> None:
        """Note what the effect must know of what runs the model, None for a bare transformer; before it is put on."""

    def put_on(self, module: nn.Module) -> None:
        """Do what the effect needs elsewhere, beside being on this module; doing it again must do nothing."""

    def take_off(self, module: nn.Module) -> None:
        """Undo `put_on`."""

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with which the module must run."""
        return args, kwargs

    def on_output(self, output: Any) -> Any:
        """What the module must give in place of its output."""
        return output

    def on_fresh_output(self, output: Any) -> Any:
        """As `on_output`, where the module has just made its output and nobody else holds it: it may be written to."""
        return self.on_output(output)


def changed(effect: Effect, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The output as an effect makes it. A norm that works in place gives back what it was given, or nothing: there the
    effect is written into that too, for the caller may ignore what the norm returns (Wan2GP).
    """
    given = args[0] if args else next(iter(kwargs.values()), None)
    if output is not None and (output is not given or isinstance(module, nn.Identity)):
        return effect.on_output(output)
    if given is None:
        return output
    made = effect.on_output(given)
    if made is not given:
        given.copy_(made)
    return output


class SwitchedState(State):
    """A state with a factor per batch or per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.switch: Tensor = _OFF
        """1 where the effect acts, 0 where it does not; 0-dim, or one number per sample."""


class SwitchedEffect(Effect):
    """An effect that is blended with doing nothing by one factor per batch or per sample."""

    state_type = SwitchedState

    def set_active(self, is_active: bool) -> None:
        """Switch on or off, for all blocks and samples at once."""
        now = self.now
        now.is_active = is_active
        now.switch = _ON if is_active else _OFF

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only."""
        now = self.now
        now.is_active = any(is_active)
        now.switch = torch.tensor(is_active, dtype=torch.float32)

    def switch_like(self, values: Tensor) -> Tensor:
        """The switch, so shaped and placed that some values can be multiplied by it."""
        switch = self.now.switch
        return switch if switch.ndim == 0 else by_sample(switch, values)


def by_sample(numbers: Tensor, values: Tensor) -> Tensor:
    """One number per sample, on the device of some values and broadcast over all of their axes but the first.

    Where the host makes each frame of a sample a sample of its own (Latte), they share its number. Values that are the
    same for all samples may have a batch of one.
    """
    numbers = numbers.repeat_interleave(max(1, len(values) // len(numbers)))
    return numbers.to(values.device).view(-1, *[1] * (values.ndim - 1))


class Several(Effect):
    """Effects of several modulations on one module, one after the other."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        """`effects`: in the order in which they act."""
        super().__init__()
        self.effects = tuple(effects)
        self.is_neutral_in_graph = all(effect.is_neutral_in_graph for effect in effects)

    def follow(self) -> None:
        """Be on in this forward if one of them is; after they have been switched."""
        self.now.is_active = any(effect.now.is_active for effect in self.effects)

    def put_on(self, module: nn.Module) -> None:
        """As each of them needs it."""
        for effect in self.effects:
            effect.put_on(module)

    def take_off(self, module: nn.Module) -> None:
        """As each of them needs it."""
        for effect in self.effects:
            effect.take_off(module)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments, as all of them make them."""
        for effect in self.effects:
            if _is_on(effect):
                args, kwargs = effect.on_input(module, args, kwargs)
        return args, kwargs

    def on_output(self, output: Any) -> Any:
        """The output, as all of them make it."""
        for effect in self.effects:
            if _is_on(effect):
                output = effect.on_output(output)
        return output

    def on_fresh_output(self, output: Any) -> Any:
        """As `on_output`: what one of them makes is fresh for the next."""
        for effect in self.effects:
            if _is_on(effect):
                output = effect.on_fresh_output(output)
        return output


def _is_on(effect: Effect) -> bool:
    now = effect.now
    if torch.compiler.is_dynamo_compiling():
        now.has_run = True
        return effect.is_neutral_in_graph or now.is_active
    return now.is_active


class Installed(NamedTuple):
    """An effect and the module that it is for."""

    module: nn.Module
    effect: Effect
    is_counted: bool = True
    """Whether this module stands for its attention in counts: one module of each does."""


def together(installed: Sequence[Installed]) -> list[Installed]:
    """One effect for each module: where several modulations act on one, they do so one after the other."""
    by_module: dict[int, list[Installed]] = {}
    for item in installed:
        by_module.setdefault(id(item.module), []).append(item)
    shared: dict[tuple[int, ...], Several] = {}
    joined = []
    for items in by_module.values():
        effects = [item.effect for item in items]
        key = tuple(map(id, effects))
        effect = effects[0] if len(effects) == 1 else shared.setdefault(key, Several(effects))
        joined.append(Installed(items[0].module, effect, any(item.is_counted for item in items)))
    return joined


@cache
def _of_size(count: int) -> Tensor:
    """A tensor without content whose first axis is so long."""
    with torch.inference_mode(False):
        return torch.empty((count, 0), device="cpu")


def scalar(value: float) -> Tensor:
    """A 0-dim tensor on the CPU: it multiplies like a Python float on any device, without a sync and without changing
    the dtype; and a gradient may need it, wherever it was made.
    """
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float32, device="cpu")


_ON, _OFF = scalar(1.0), scalar(0.0)
