"""The third mechanism: queries, keys and values at the attention call itself, after norm and rotary embedding.

Norm output and mask reach most of what a modulation wants. What needs rotated keys, values, or the logits of joint
attention acts where diffusers' processors call `dispatch_attention_fn`. That name is exchanged in their module
while something is attached that needs it, and passes everything on untouched where no such attention is running. The
attention that runs says so itself: its effect is on its module, as every effect is (swap.py).

What is changed lies before the kernel, or is what the kernel gave (NAG), so it is exact with every backend of the
dispatch; a mask is not changed there. A host with a way of its own to the attention call says so (`Site.call`).
An attention whose processor calls a kernel by itself, such as CogVideoX's or SD3's, is refused when attaching; one that
another processor takes out of the dispatch later is an error at its next run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from alignvid.attachment.effect import Installed, SwitchedEffect, SwitchedState
from alignvid.attachment.effects.dispatch import (
    attend,
    attending,
    dispatching_module,
    exchange_dispatch,
    restore_dispatch,
)
from alignvid.attachment.placement import Placement
from alignvid.attachment.streams import stream_sizes
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.sites import NormLocation, norm_of
from alignvid.models.attention_call import AttentionCall, CallReach, Kernel

Again = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same kernel on other queries, keys and values, without a mask."""


class AttendingState(SwitchedState):
    """Whether the attention that is running has made the call that is acted on."""

    def __init__(self) -> None:
        super().__init__()
        self.has_called = False
        self.given: tuple[int, int] | None = None
        """Tokens of the hidden and of the encoder states that the attention was given; None if it took them otherwise.
        """


class AttentionEffect(SwitchedEffect):
    """Acts on the attention call of the modules that it is on. One softmax holds all of their keys."""

    state_type = AttendingState
    is_neutral_in_graph = False
    reads_token_counts = True

    def __init__(self, streams: Sequence[str]) -> None:
        """`streams`: of the keys, in the order of the softmax."""
        super().__init__()
        self.streams = tuple(streams)
        self.groups: tuple[tuple[str, ...], ...] = ()
        """Streams of the hidden states, then of the encoder states, where these have norms of their own."""
        self.call: CallReach | None = None
        """The host's own way to the call; None for diffusers' dispatch."""

    def on_call(self, asked: AttentionCall) -> AttentionCall:
        """What the softmax is to be asked for in place of this."""
        return asked

    def on_attended(self, asked: AttentionCall, output: Tensor, again: Again) -> Tensor:
        """What the softmax is to give in place of this output of `asked`."""
        return output

    def sizes(self, asked: AttentionCall) -> list[int]:
        """Keys of each stream, in order.

        Raises: AttachmentError if the family counts too few of them, and the attention was not given each kind apart.
        """
        now, total = self.now, asked.key.shape[1]
        if sum(now.tokens_in(stream) is None for stream in self.streams) < 2:
            return stream_sizes(total, self.streams, now)
        if now.given is None or len(self.groups) != 2 or sum(now.given) != total:
            raise AttachmentError(
                f"{total} keys cannot be split into {', '.join(self.streams)}: the family counts the tokens of too few "
                "of these streams, and this attention is not given them apart. Use a scalar modulation here."
            )
        sizes: dict[str, int] = {}
        for names, count in zip(self.groups, now.given, strict=True):
            sizes |= zip(names, stream_sizes(count, names, now), strict=True)
        return [sizes[stream] for stream in self.streams]

    def attended(self, asked: AttentionCall, kernel: Kernel) -> Tensor:
        """What a softmax gives, where the host has its own way to the call."""
        if is_another(asked, self.streams, self.now):
            return kernel(asked)
        self.now.has_called = True
        asked = self.on_call(asked)

        def again(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return kernel(AttentionCall(query, key, value, None, asked.scale))

        return self.on_attended(asked, kernel(asked), again)

    def put_on(self, module: nn.Module) -> None:
        """Let the processor of an attention ask here before it calls the dispatch."""
        if self.call is None:
            exchange_dispatch(module)

    def take_off(self, module: nn.Module) -> None:
        """Undo `put_on`."""
        if self.call is None:
            restore_dispatch(module)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments, by which or after which the attention call is this effect's."""
        now = self.now
        now.has_called, now.given = False, _given(args, kwargs)
        if self.call is not None:
            return self.call(args, kwargs, self.attended)
        attend((*attending(), self))
        return args, kwargs

    def on_output(self, output: Any) -> Any:
        """The output, untouched. Raises: AttachmentError if no call of the attention was seen."""
        if self.call is None:
            attend(())
        check_called(self.now, self.call)
        return output


def is_another(asked: AttentionCall, streams: Sequence[str], now: AttendingState) -> bool:
    """Whether an attention that has made its call makes one of other keys, as SD 3.5's second attention to the picture
    alone. Only where the tokens of each of the streams are counted; else every call holds them.
    """
    counts = [now.tokens_in(stream) for stream in streams]
    return now.has_called and None not in counts and sum(filter(None, counts)) != asked.key.shape[1]


def check_called(now: AttendingState, call: CallReach | None) -> None:
    """Raises: AttachmentError if no call of the attention that has run was seen, by the way that `call` says."""
    if now.has_called:
        return
    if call is None:
        raise AttachmentError(
            "An attention that AlignVid acts on did not call diffusers' dispatch_attention_fn, so that its "
            "queries, keys and values were not seen: was another processor set meanwhile? Detach and attach again."
        )
    raise AttachmentError(
        "An attention that AlignVid acts on ran a kernel of its own and not the attention call of its host, so that "
        "its queries, keys and values were not seen: take out what exchanges attentions, or use a scalar modulation."
    )


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int] | None:
    """Tokens of the hidden and of the encoder states among an attention's arguments."""
    hidden = kwargs.get("hidden_states", args[0] if args else None)
    encoder = kwargs.get("encoder_hidden_states", args[1] if len(args) > 1 else None)
    if not isinstance(hidden, Tensor) or not isinstance(encoder, Tensor) or hidden.ndim != 3 or encoder.ndim != 3:
        return None
    return hidden.shape[1], encoder.shape[1]


def single_softmax(location: NormLocation, kind: str) -> tuple[str, ...]:
    """Streams of the one softmax of an attention, in order, whose call can be acted on.

    Raises: UnknownTarget if it has several softmaxes, or its processor does not call diffusers' dispatch.
    """
    site = location.attention_site
    present = [keys for keys in site.keys if norm_of(location.attention, keys) is not None]
    if not site.is_joint and len(present) > 1:
        raise UnknownTarget(
            f"The attention {location.site!r} has a softmax for each of its key norms, which a modulation of kind "
            f"{kind!r} cannot distinguish at the attention call; choose streams of self- or joint attention."
        )
    if site.call is None:
        check_dispatched(location, kind)
    norms = site.keys if site.is_joint else (location.keys,)
    return site.joint_order or tuple(stream for keys in norms for stream in keys.streams)


def check_dispatched(location: NormLocation, kind: str) -> None:
    """Raises: UnknownTarget if an attention's processor does not call diffusers' dispatch."""
    if dispatching_module(location.attention) is None:
        processor = type(getattr(location.attention, "processor", location.attention)).__name__
        raise UnknownTarget(
            f"The attention {location.site!r} runs {processor}, which calls a kernel by itself and not diffusers' "
            f"dispatch_attention_fn, so that a modulation of kind {kind!r} cannot see its rotated keys. Use a scalar "
            "or log-bias modulation here, or a model whose attention is dispatched."
        )


def call_effects(
    placements: Sequence[Placement],
    kind: str,
    make: Callable[[tuple[str, ...], dict[str, float]], AttentionEffect],
) -> list[Installed]:
    """One effect on each attention, shared by all that have the same streams and powers.

    Args:
        placements: the key norms that were chosen.
        kind: of the modulation, for messages.
        make: the effect of these streams of one softmax, and the power of each that is a target.
    """
    by_attention: dict[int, list[Placement]] = {}
    for item in placements:
        by_attention.setdefault(id(item.location.attention), []).append(item)
    shared: dict[tuple[object, ...], AttentionEffect] = {}
    installed = []
    for items in by_attention.values():
        location = items[0].location
        streams, powers = single_softmax(location, kind), tuple(pair for item in items for pair in item.powers)
        key = (location.site, streams, powers)
        if key not in shared:
            shared[key] = make(streams, dict(powers))
            shared[key].groups = tuple(keys.streams for keys in location.attention_site.keys)
            shared[key].call = location.attention_site.call
        installed.append(Installed(location.attention, shared[key]))
    return installed
