"""Diffusers' attention dispatch, exchanged for ours in the modules whose processors call it, while something needs it.

Ours passes everything on untouched where no attention is running that an effect is on (`attend`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from alignvid.attachment.call import running
from alignvid.models.attention_call import AttentionCall

_NAME = "dispatch_attention_fn"


class _Attending:
    """Effects of the attention that compiled code is running; eager code keeps them in the call of its thread."""

    def __init__(self) -> None:
        self.effects: tuple[Any, ...] = ()
        """On the instance from the start: compiled code looks whether it is there, and would be compiled again."""


_compiled = _Attending()


def attending() -> tuple[Any, ...]:
    """Effects of the attention that is running, in this thread or in compiled code."""
    if torch.compiler.is_compiling():
        return _compiled.effects
    call = running()
    return () if call is None else call.attending


def attend(effects: tuple[Any, ...]) -> None:
    """From here on the attention call is these effects'."""
    if torch.compiler.is_compiling():
        _compiled.effects = effects
    elif (call := running()) is not None:
        call.attending = effects


def dispatching_module(attention: nn.Module) -> ModuleType | None:
    """The module whose `dispatch_attention_fn` an attention's processor calls; None if it calls none."""
    processor = getattr(attention, "processor", None)
    code = type(attention).forward if processor is None else type(processor).__call__
    module = sys.modules.get(getattr(code, "__module__", ""))
    return module if module is not None and callable(getattr(module, _NAME, None)) else None


def exchange_dispatch(attention: nn.Module) -> None:
    """Put our dispatch in the place of that of an attention's processor; doing it again does nothing."""
    if (module := dispatching_module(attention)) is None:
        return  # the attention says so when it runs
    users = _users.setdefault(module.__name__, WeakSet())
    users.add(attention)
    if not hasattr(getattr(module, _NAME), "_alignvid_plain"):
        setattr(module, _NAME, _overheard(getattr(module, _NAME)))


def restore_dispatch(attention: nn.Module) -> None:
    """Give a processor's module its own dispatch back when its last attention is done with it."""
    for name, users in _users.items():
        users.discard(attention)
        module = sys.modules.get(name)
        plain = getattr(getattr(module, _NAME, None), "_alignvid_plain", None)
        if not users and plain is not None:  # else another's lies over ours, which passes everything on
            setattr(module, _NAME, plain)


_users: dict[str, WeakSet[nn.Module]] = {}
"""Attentions that need our dispatch, by the name of the module that calls it."""


def _overheard(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(plain)
    def dispatch(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        effects = attending()
        if not effects:
            return plain(query, key, value, attn_mask, *args, **kwargs)
        scale = kwargs.get("scale")
        asked = AttentionCall(query, key, value, attn_mask, query.shape[-1] ** -0.5 if scale is None else scale)
        for effect in effects:
            effect.now.has_called = True
            asked = effect.on_call(asked)
        output = plain(asked.query, asked.key, asked.value, attn_mask, *args, **kwargs)
        again = partial(_unmasked, plain, args, kwargs)
        for effect in effects:
            output = effect.on_attended(asked, output, again)
        return output

    dispatch._alignvid_plain = plain  # type: ignore[attr-defined]  # read by restore_dispatch
    return dispatch


def _unmasked(
    kernel: Callable[..., Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
) -> Tensor:
    return kernel(query, key, value, None, *args, **kwargs)
