"""The mechanism: a gain on the output of a key norm.

Rotary embedding is linear, so a gain after the norm equals a gain after the embedding, and any attention backend,
quantisation or LoRA comes before or after it. The norm's class is swapped in place for a subclass with the same name:
weights, keys of the state dict and hooks stay. Where somebody else has put a forward on the instance (offloading does),
a diffusers hook is used. The gain itself is a plain Python object, invisible to `state_dict`, offloading and LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.errors import AttachmentError

_HOOK_NAME = "alignvid_gain"
_ATTRIBUTE = "_alignvid_gain"
_NEUTRAL = 1.0


class KeyGain:
    """The factors on the keys of one kind of norm, switched on and off for all blocks at once."""

    def __init__(
        self, factors: Sequence[float | None], streams: Sequence[str], sequence_dim: int, token_counts: dict[str, int]
    ) -> None:
        """One factor for all keys, or one per stream in token order (None leaves the stream alone).

        Args:
            factors: a single factor, or as many as there are streams.
            streams: names of the streams in their order on the sequence axis.
            sequence_dim: sequence axis of the norm's output.
            token_counts: tokens per stream, filled in before each forward; one stream may be missing.
        """
        self.streams = tuple(streams)
        self.sequence_dim = sequence_dim
        self.token_counts = token_counts
        self.is_active = False
        self._values = tuple(None if factor is None else _scalar(factor) for factor in factors)
        self._neutral = tuple(None if factor is None else _scalar(_NEUTRAL) for factor in factors)
        self.factors = self._neutral

    def set_active(self, is_active: bool) -> None:
        """Switch all factors on or off. Compiled code multiplies by one when off; eager code skips the operation."""
        self.is_active = is_active
        self.factors = self._values if is_active else self._neutral

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch the factors on for some samples of a batch only (batched classifier-free guidance)."""
        self.is_active = any(is_active)
        mask = torch.tensor(is_active)
        self.factors = tuple(None if value is None else torch.where(mask, value, _NEUTRAL) for value in self._values)

    def scaled(self, keys: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The keys, multiplied by their factors; a new tensor."""
        if len(self.factors) == 1:
            return _multiplied(keys, self.factors[0])
        parts = keys.split(self._split(keys.shape[self.sequence_dim]), self.sequence_dim)
        return torch.cat(
            [_multiplied(part, factor) for part, factor in zip(parts, self.factors, strict=True)], self.sequence_dim
        )

    def _split(self, total: int) -> list[int]:
        counts = [self.token_counts.get(stream) for stream in self.streams]
        rest = total - sum(count for count in counts if count is not None)
        # Compiled, `total` may be known on the device only (FramePack crops its text by a mask): there is no comparing
        # it.
        if not torch.compiler.is_compiling() and (rest < 0 or (rest > 0 and None not in counts)):
            raise AttachmentError(
                f"{total} keys cannot be split into {self.token_counts} and the rest: the family's token counts do not "
                "fit this model; see docs/families.md."
            )
        return [rest if count is None else count for count in counts]


def install(norm: nn.Module, gain: KeyGain) -> None:
    """Let a gain act on a norm's output."""
    if "forward" in vars(norm):
        HookRegistry.check_if_exists_or_initialize(norm).register_hook(_GainHook(gain), _HOOK_NAME)
        return
    object.__setattr__(norm, _ATTRIBUTE, gain)
    norm.__class__ = _gained_class(type(norm))


def remove(norm: nn.Module, gain: KeyGain) -> None:
    """Undo `install`: the class and the instance are as before."""
    gain.set_active(False)
    registry = getattr(norm, "_diffusers_hook", None)
    if registry is not None and registry.get_hook(_HOOK_NAME) is not None:
        registry.remove_hook(_HOOK_NAME, recurse=False)
        _drop_traces(norm)
        return
    norm.__class__ = getattr(type(norm), "_alignvid_base", type(norm))
    if "forward" not in vars(norm):  # else somebody wrapped our forward meanwhile: it still reads the gain, now inert
        vars(norm).pop(_ATTRIBUTE, None)


class _GainHook(ModelHook):
    def __init__(self, gain: KeyGain) -> None:
        super().__init__()
        self.gain = gain

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return _applied(self.gain, output)


def _applied(gain: KeyGain, keys: Tensor) -> Tensor:
    # Under torch.compile the branch is constant and the factor an input of the graph, so a window's edge costs no
    # recompilation.
    if torch.compiler.is_compiling() or gain.is_active:
        return gain.scaled(keys)
    return keys


@cache
def _gained_class(base: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return _applied(getattr(self, _ATTRIBUTE), base.forward(self, *args, **kwargs))

    return same_named_subclass(base, {"forward": forward})


def same_named_subclass(base: type, members: Mapping[str, Any]) -> type:
    """A subclass that saving, LoRA loading and messages take for its base."""
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**names, "_alignvid_base": base, **members})


def _multiplied(keys: Tensor, factor: Tensor | None) -> Tensor:
    if factor is None:
        return keys
    if factor.ndim == 0:
        return keys * factor
    shaped = factor.to(keys.device).view(-1, *[1] * (keys.ndim - 1))
    return (keys * shaped).to(keys.dtype)


def _scalar(value: float) -> Tensor:
    """A 0-dim CPU tensor: multiplies like a Python float on any device, without a sync and without changing the
    dtype.
    """
    return torch.tensor(value, dtype=torch.float32, device="cpu")


def _drop_traces(norm: nn.Module) -> None:
    """A registry without hooks, and the class's own forward that it leaves on the instance, would stay for ever.

    Later attachments would then take the slow path.
    """
    if not norm._diffusers_hook.hooks:  # type: ignore[union-attr]  # the registry, by its user above
        del norm._diffusers_hook
    if getattr(vars(norm).get("forward"), "__func__", None) is type(norm).forward:
        del norm.forward  # type: ignore[attr-defined]  # an instance attribute, checked above
