"""The attention call of ComfyUI's modules, through the override that each of them asks before it runs a kernel.

Ours is in the options of one attention alone, for one forward of it, and calls the override that was there before: of
a node before this one or after it, of a watch. So it composes with another kernel, whoever set it and when.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from alignvid.models.attention_call import Attend, AttentionCall, Kernel

OVERRIDE = "optimized_attention_override"
"""Of the transformer options: what an attention runs in place of its kernel, which it is given."""
_NAMES = ("heads", "mask", "attn_precision", "skip_reshape", "skip_output_reshape")
"""Of the arguments that ComfyUI's kernels take after query, key and value; some attentions give them by place."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def at_call(args: tuple[Any, ...], kwargs: dict[str, Any], attend: Attend) -> Arguments:
    """Arguments of an attention with which each of its attention calls passes `attend`, after norm and rotation."""
    options = kwargs.get("transformer_options") or {}
    found = options.get(OVERRIDE)
    ours = found.followed_by(attend) if isinstance(found, Override) else Override(found, (attend,))
    return args, {**kwargs, "transformer_options": {**options, OVERRIDE: ours}}


def at_keys(args: tuple[Any, ...], kwargs: dict[str, Any], scale: Callable[[Tensor], Tensor]) -> Arguments:
    """Arguments of an attention with which the keys of its call, (batch, tokens, heads, size), pass `scale`."""

    def attend(asked: AttentionCall, kernel: Kernel) -> Tensor:
        return kernel(asked._replace(key=scale(asked.key)))

    return at_call(args, kwargs, attend)


class Override:
    """What one attention asks: ours, in the order in which the effects are on it, then what was there before."""

    def __init__(self, earlier: Callable[..., Tensor] | None, attends: tuple[Attend, ...]) -> None:
        """`earlier`: the override that was there."""
        self.earlier, self.attends = earlier, attends

    def followed_by(self, attend: Attend) -> Override:
        """The same with one more of ours, behind the others."""
        return Override(self.earlier, (*self.attends, attend))

    def __call__(
        self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any, **given: Any
    ) -> Tensor:
        """As ComfyUI calls an override."""
        kernel = attention if self.earlier is None else partial(self.earlier, attention)
        asked, run = _in_common(kernel, q, k, v, rest, given)
        for attend in reversed(self.attends):
            run = _through(attend, run)
        return _as_wanted(run(asked), _named(rest, given))


def _through(attend: Attend, kernel: Kernel) -> Kernel:
    return lambda asked: attend(asked, kernel)


def _named(rest: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(_NAMES, rest, strict=False)), **given}


def _in_common(
    kernel: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, rest: tuple[Any, ...], given: dict[str, Any]
) -> tuple[AttentionCall, Kernel]:
    """What an attention asks for in the layout of `AttentionCall`, and what computes such a call."""
    named = _named(rest, given)
    are_apart, size = bool(named.get("skip_reshape")), q.shape[-1]  # (batch, heads, tokens, size), else flat
    if not are_apart:
        size //= named["heads"]
    query, key = (_by_head(tokens, are_apart, -1, size) for tokens in (q, k))
    asked = AttentionCall(
        query,
        key,
        _by_head(v, are_apart, key.shape[2], -1),
        _with_four_axes(named.get("mask")),
        size**-0.5 if named.get("scale") is None else named["scale"],
    )

    def run(call: AttentionCall) -> Tensor:
        tokens = [part.transpose(1, 2) if are_apart else part.flatten(2) for part in call[:3]]
        if call.mask is asked.mask:
            return _common(kernel(*tokens, *rest, **given), named)
        if len(rest) > 1:
            return _common(kernel(*tokens, rest[0], call.mask, *rest[2:], **given), named)
        return _common(kernel(*tokens, *rest, **{**given, "mask": call.mask}), named)

    return asked, run


def _by_head(tokens: Tensor, are_apart: bool, heads: int, size: int) -> Tensor:
    if are_apart:
        return tokens.transpose(1, 2)
    return tokens if tokens.ndim == 4 else tokens.unflatten(2, (heads, size))  # SD3's values are not flat


def _common(output: Tensor, named: dict[str, Any]) -> Tensor:
    """What a kernel gave as (batch, query, heads, size)."""
    return output.transpose(1, 2) if named.get("skip_output_reshape") else output.unflatten(2, (named["heads"], -1))


def _as_wanted(output: Tensor, named: dict[str, Any]) -> Tensor:
    """Undoes `_common`."""
    return output.transpose(1, 2) if named.get("skip_output_reshape") else output.flatten(2)


def _with_four_axes(mask: Tensor | None) -> Tensor | None:
    """A mask with the axes that ComfyUI leaves out: (query, key), or (batch, query, key)."""
    if mask is None or mask.ndim > 3:
        return mask
    return mask[None, None] if mask.ndim == 2 else mask[:, None]
