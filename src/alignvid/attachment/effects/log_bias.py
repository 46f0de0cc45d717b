"""Log-bias: a constant on a stream's logits, through the attention mask.

softmax(z + b) multiplies the odds of the biased keys by e^b, whatever the logits are; a gain cannot do that. It needs
another stream in the same softmax: on all logits of one softmax a constant does nothing. The mask that the host gives
is kept; where it gives none (FramePack with one sample), one is made. An attention backend that takes no mask says so;
at an attention call of a host's own it is looked at in the first step that acts, for there a kernel may take the mask
and do nothing with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from alignvid.attachment.call import running
from alignvid.attachment.effect import Installed, SwitchedEffect
from alignvid.attachment.effects.attention_call import AttendingState, check_called, is_another
from alignvid.attachment.effects.masks import check_mask
from alignvid.attachment.effects.words import (
    IN_TEXT,
    TEXT,
    TokenEffect,
    TokenRule,
    fitted,
    stream_rule,
    text_apart,
)
from alignvid.attachment.placement import Placement
from alignvid.attachment.streams import stream_sizes
from alignvid.errors import UnknownTarget
from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall, CallReach, Kernel
from alignvid.models.family import Family
from alignvid.modulation.log_bias import LogBias

_POSITIONS = {"hidden_states": 0, "encoder_hidden_states": 1, "attention_mask": 2}
"""Of the arguments of an attention's forward; every host has them in this order."""


def additive_mask(
    bias: Float[Tensor, "*#batch 1 1 key"], mask: Bool[Tensor, "*#batch 1 #query key"] | Float[Tensor, ...] | None
) -> Float[Tensor, ...]:
    """A bias on logits together with a mask: False, or -inf, stays out of reach.

    It has the mask's axes: hosts that give one of (batch, key) or (batch, 1, key) put in the others themselves.
    """
    if mask is None:
        return bias
    if mask.ndim < bias.ndim:
        bias = bias.reshape(len(bias), *[1] * (mask.ndim - 2), bias.shape[-1])
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask


class MaskBias(SwitchedEffect):
    """Puts a bias on the attention mask with which an attention runs, or which its attention call is given."""

    state_type = AttendingState
    is_neutral_in_graph = False
    reads_token_counts = True

    def __init__(self, biases: Mapping[str, float], streams: Sequence[str], call: CallReach | None) -> None:
        """Args:
        biases: what is added to the logits, by stream; the others get 0.
        streams: all streams of the softmax in token order.
        call: see `Site.call`.
        """
        super().__init__()
        self.biases = tuple(biases.get(stream, 0.0) for stream in streams)
        self.streams = tuple(streams)
        self.call = call

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with another attention mask, or with which the attention call gets one."""
        if not any(self.biases):
            return args, kwargs  # bit-equal, also where a kernel without a mask would round differently
        if self.call is not None:
            self.now.has_called = False
            return self.call(args, kwargs, self.attended)
        hidden, encoder, mask = (_argument(name, args, kwargs) for name in _POSITIONS)
        total = hidden.shape[1] + (0 if encoder is None else encoder.shape[1])
        return _with_mask(additive_mask(self._bias(hidden, total), mask), args, kwargs)

    def attended(self, asked: AttentionCall, kernel: Kernel) -> Tensor:
        """What a softmax gives with the bias. Raises: AttachmentError if its kernel takes no notice of a mask."""
        if is_another(asked, self.streams, self.now):
            return kernel(asked)
        self.now.has_called = True
        bias = self._bias(asked.query, asked.key.shape[1])
        biased = asked._replace(mask=additive_mask(bias, asked.mask))
        output = kernel(biased)
        call = None if torch.compiler.is_compiling() else running()
        if call is not None and call.met is not None:  # once a run, for that waits for the device
            check_mask(asked, biased, output)
        return output

    def on_output(self, output: Any) -> Any:
        """The output, untouched. Raises: AttachmentError if no call of the attention was seen."""
        if self.call is not None and any(self.biases):
            check_called(self.now, self.call)
        return output

    def _bias(self, like: Tensor, total: int) -> Tensor:
        sizes = stream_sizes(total, self.streams, self.now)
        parts = [like.new_full((1, 1, 1, size), bias) for size, bias in zip(sizes, self.biases, strict=True)]
        bias = torch.cat(parts, -1)
        return (bias * self.switch_like(bias)).to(like.dtype)


class TokenBias(TokenEffect):
    """Puts a bias for each token of the text on the attention mask with which an attention runs."""

    reads_token_counts = True

    def __init__(self, rule: TokenRule, family: Family, biases: Mapping[str, float], streams: Sequence[str]) -> None:
        """Args:
        rule: what is added to the logits of the text's tokens.
        family: says where the text lies in a forward.
        biases: what is added to the logits, by stream beside the text; the others get 0.
        streams: all streams of the softmax in token order.
        """
        super().__init__(rule, family)
        self.biases = biases
        self.streams = tuple(streams)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with another attention mask."""
        now = self.now
        hidden, encoder, mask = (_argument(name, args, kwargs) for name in _POSITIONS)
        sizes = [now.numbers.shape[1]]
        if len(self.streams) > 1:
            sizes = stream_sizes(hidden.shape[1] + (0 if encoder is None else encoder.shape[1]), self.streams, now)
        samples = hidden.shape[0]
        parts = [
            fitted(now.numbers, samples, size, self.rule.beyond)
            if stream == TEXT
            else now.numbers.new_full((samples, size), self.biases.get(stream, 0.0))
            for stream, size in zip(self.streams, sizes, strict=True)
        ]
        bias = torch.cat(parts, -1)[:, None, None].to(hidden.dtype)
        return _with_mask(additive_mask(bias, mask), args, kwargs)


def log_bias_effects(modulation: LogBias, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One bias per kind of attention, shared by all blocks; for each token where a part of the text has its own."""
    inner = {id(item.location.attention) for item in placements if text_apart(item)[1] is not None}
    whole = [item for item in placements if id(item.location.attention) not in inner]

    def rule_of(placement: Placement) -> TokenRule:
        return stream_rule({stream: modulation.bias(power) for stream, power in placement.powers}, 0.0)

    by_token = [item for item in placements if id(item.location.attention) in inner]
    return [*_whole_biases(modulation, whole), *token_bias_effects(by_token, rule_of, host.family, modulation.bias)]


def token_bias_effects(
    placements: Sequence[Placement],
    rule_of: Callable[[Placement], TokenRule],
    family: Family,
    bias_of: Callable[[float], float] = float,
) -> list[Installed]:
    """A bias for each token of the text, per kind of attention.

    Args:
        placements: all that are acted on.
        rule_of: gives the numbers at the placement that holds the text.
        family: says where the text lies in a forward.
        bias_of: gives what is added to a stream beside the text, from its power.
    """
    shared: dict[tuple[object, ...], TokenBias] = {}
    installed = []
    for _, group in groupby(placements, key=lambda placement: id(placement.location.attention)):
        items = list(group)
        location, streams = items[0].location, _streams_of_one_softmax(items)
        if location.attention_site.call is not None:
            raise UnknownTarget(
                f"A constant for single tokens cannot be put on the attention call of {location.site!r}: choose whole "
                "streams, or a scalar modulation."
            )
        powers = tuple(pair for item in items for pair in item.powers)
        kind = (location.site, streams, powers)
        if kind not in shared:
            beside = {stream: bias_of(power) for stream, power in powers if stream not in IN_TEXT}
            text = next(item for item in items if TEXT in item.location.keys.streams)
            shared[kind] = TokenBias(rule_of(text), family, beside, streams)
        installed.append(Installed(location.attention, shared[kind]))
    return installed


def _whole_biases(modulation: LogBias, placements: Sequence[Placement]) -> list[Installed]:
    shared: dict[tuple[object, ...], MaskBias] = {}
    installed = []
    for _, group in groupby(placements, key=lambda placement: id(placement.location.attention)):
        items = list(group)
        location, streams = items[0].location, _streams_of_one_softmax(items)
        powers = tuple(pair for item in items for pair in item.powers)
        kind = (location.site, streams, powers)
        if kind not in shared:
            biases = {stream: modulation.bias(power) for stream, power in powers}
            shared[kind] = MaskBias(biases, streams, location.attention_site.call)
        installed.append(Installed(location.attention, shared[kind]))
    return installed


def _streams_of_one_softmax(items: Sequence[Placement]) -> tuple[str, ...]:
    location, site = items[0].location, items[0].location.attention_site
    norms = site.keys if site.is_joint else (location.keys,)
    streams = site.joint_order or tuple(stream for keys in norms for stream in keys.streams)
    if len(streams) == 1 and all(text_apart(item)[1] is None for item in items):
        _refuse(location)
    if site.ignores_mask and site.call is None:
        raise UnknownTarget(
            f"The attention {site.name!r} of this model takes no attention mask of ours, so that no constant can be "
            "put on its logits; use a scalar modulation here."
        )
    return streams


def _refuse(location: NormLocation) -> None:
    targets = ", ".join(f"{location.site}.{stream}" for stream in location.keys.streams)
    raise UnknownTarget(
        f"{targets} is alone in its softmax, where a constant on all logits does nothing: a log-bias needs a site "
        "whose streams share one softmax, such as HunyuanVideo's or FramePack's. Use a scalar modulation here."
    )


def _argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    position = _POSITIONS[name]
    return kwargs.get(name) if name in kwargs or len(args) <= position else args[position]


def _with_mask(mask: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    position = _POSITIONS["attention_mask"]
    if len(args) <= position:
        return args, {**kwargs, "attention_mask": mask}
    return (*args[:position], mask, *args[position + 1 :]), kwargs
