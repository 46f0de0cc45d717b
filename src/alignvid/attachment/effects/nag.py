"""The effect of NAG: a second attention of the same queries to a negative text, and guidance between both.

    Z̃ = s·Z⁺ − (s − 1)·Z⁻;   r = ‖Z̃‖₁ / ‖Z⁺‖₁ of each token, and where r > τ: Z̃ ← Z̃·τ/r;   Z = α·Z̃ + (1 − α)·Z⁺

before the output projection. Source: arXiv 2505.21179.

The negative text runs beside the prompt's tokens through the modules that make them what cross-attention is given, and
each attention makes its keys and values by its own projections and norm: LoRA, offloading and quantisation are in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, SwitchedEffect, SwitchedState
from alignvid.attachment.effects.attention_call import (
    Again,
    AttendingState,
    AttentionEffect,
    check_dispatched,
)
from alignvid.attachment.placement import Placement
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.encoding import encoded_text
from alignvid.host.sites import NormLocation, norm_of
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall
from alignvid.models.family import Family
from alignvid.models.paths import descend
from alignvid.modulation.nag import Nag


def guided(
    positive: Float[Tensor, "batch query heads size"],
    negative: Float[Tensor, "batch query heads size"],
    scale: float,
    tau: float,
    alpha: Float[Tensor, ...] | float,
) -> Float[Tensor, "batch query heads size"]:
    """What text makes of each query, pushed away from what the negative does; bit-equal to it for a scale of 1."""
    plus, minus = positive.float(), negative.float()
    away = plus + (scale - 1.0) * (plus - minus)
    norms = [values.abs().sum((2, 3), keepdim=True) for values in (away, plus)]
    largest = tau * norms[1]
    away = torch.where(norms[0] > largest, away * (largest / norms[0].clamp(min=torch.finfo(plus.dtype).tiny)), away)
    return (plus + alpha * (away - plus)).to(positive.dtype)


class NegativeState(SwitchedState):
    """The negative text of one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding: Tensor | None = None
        """As the text encoder gives it."""
        self.context: Tensor | None = None
        """As cross-attention is given it."""


class AppendedText(SwitchedEffect):
    """Puts the negative text behind the prompt's tokens, where these enter the model."""

    state_type = NegativeState
    is_neutral_in_graph = False

    def __init__(self, modulation: Nag, family: Family) -> None:
        super().__init__()
        self.text, self.family, self.is_neutral = modulation.negative, family, modulation.is_neutral
        self._encoded: Tensor | None = None

    def learn(self, pipeline: Any) -> None:
        """Encode the negative text. Raises: AttachmentError if the pipeline has no text encoder."""
        if self._encoded is None:
            self._encoded = encoded_text(pipeline, self.text)

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Put the embedding where the prompt's is."""
        prompt = arguments[self.family.time.text]
        if self._encoded is None:
            raise AttachmentError(f"The negative text {self.text!r} was not encoded; attach to a pipeline.")
        self.now.embedding = self._encoded.to(prompt.device, prompt.dtype)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The prompt's tokens, and the negative ones behind them; of a neutral one, not even that."""
        if self.is_neutral:
            return args, kwargs
        prompt = args[0]
        negative = self.now.embedding.expand(len(prompt), -1, -1)
        return (torch.cat([prompt, negative], 1), *args[1:]), kwargs


class SplitText(SwitchedEffect):
    """Takes the negative text out again, where cross-attention would be given it."""

    state_type = NegativeState
    is_neutral_in_graph = False

    def __init__(self, appended: AppendedText) -> None:
        super().__init__()
        self.appended = appended

    def on_output(self, output: Any) -> Any:
        """The prompt's tokens alone."""
        if self.appended.is_neutral:
            return output
        count = self.appended.now.embedding.shape[1]
        self.appended.now.context = output[:, -count:]
        return output[:, :-count]


class GuidedState(AttendingState):
    """Keys and values of the negative text in the attention that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.calls = 0


class GuidedAttention(AttentionEffect):
    """Guides what the text makes of each query in cross-attention."""

    state_type = GuidedState
    reads_token_counts = False

    def __init__(self, modulation: Nag, norm: str, place: int, appended: AppendedText) -> None:
        """Args:
        modulation: the settings.
        norm: attribute of the attention, the norm of the text's keys.
        place: which of the attention's softmaxes is the text's.
        appended: brings the negative text.
        """
        super().__init__(("text",))
        self.modulation, self.norm, self.place, self.appended = modulation, norm, place, appended

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments, untouched; the negative text's keys and values are made from here."""
        if self.modulation.is_neutral:
            return super().on_input(module, args, kwargs)
        now, context = self.now, self.appended.now.context
        now.keys, now.values = keys_and_values(module, descend(module, self.norm), context)
        now.calls = 0
        return super().on_input(module, args, kwargs)

    def on_attended(self, asked: AttentionCall, output: Tensor, again: Again) -> Tensor:
        """What the text makes of the queries, guided; other softmaxes of this attention stay as they are."""
        now = self.now
        now.calls += 1
        if self.modulation.is_neutral or now.calls - 1 != self.place:
            return output
        keys, values = (tokens.expand(len(asked.query), -1, -1, -1) for tokens in (now.keys, now.values))
        settings = self.modulation
        negative = again(asked.query, keys, values)
        return guided(output, negative, settings.scale, settings.tau, settings.alpha * self.switch_like(output))


def keys_and_values(
    attention: Any, norm: nn.Module | None, context: Float[Tensor, "batch token width"]
) -> tuple[Float[Tensor, "batch token heads size"], Float[Tensor, "batch token heads size"]]:
    """Keys and values of some states, by an attention's own projections (fused or not) and key norm."""
    if getattr(attention, "fused_projections", False):
        keys, values = attention.to_kv(context).chunk(2, -1)
    else:
        keys, values = attention.to_k(context), attention.to_v(context)
    split = partial(torch.unflatten, dim=2, sizes=(attention.heads, -1))
    weight = getattr(norm, "weight", None)
    if weight is not None and weight.shape[-1] != keys.shape[-1]:  # a norm of each head
        return norm(split(keys)), split(values)  # type: ignore[misc]  # it has a weight
    return split(keys if norm is None else norm(keys)), split(values)


def nag_effects(modulation: Nag, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect for all cross-attentions, and two where the text enters the model.

    Raises: UnknownTarget if the text has no attention of its own, or it is not known how it gets there.
    """
    appended = AppendedText(modulation, host.family)
    effects: dict[tuple[str, str, int], Effect] = {}
    installed, entries = [], set()
    for item in placements:
        where = item.location
        entries.add(_checked(where, host))
        key = (where.site, where.keys.path, _place(where))
        effect = effects.setdefault(key, GuidedAttention(modulation, *key[1:], appended))
        installed.append(Installed(where.attention, effect))
    [(first, last)] = entries
    return [
        Installed(host.transformer.get_submodule(first), appended, is_counted=False),
        Installed(host.transformer.get_submodule(last), SplitText(appended), is_counted=False),
        *installed,
    ]


def _checked(where: NormLocation, host: Host) -> tuple[str, str]:
    """The first and the last module that the text passes before an attention.

    Raises: UnknownTarget if the attention cannot be guided.
    """
    site, name = where.attention_site, type(host.transformer).__name__
    if site.is_joint or len(where.keys.streams) > 1:
        raise UnknownTarget(
            f"The text of {name} meets other keys in one softmax ({site.name!r}) and changes from block to block, so "
            "that a negative text would need a pass of its own. NAG is for cross-attention to text alone, such as "
            "Wan's."
        )
    if site.call is None:
        check_dispatched(where, Nag.kind)
    if not site.text_through:
        raise UnknownTarget(
            f"It is not described by which modules {name} turns a text into what {site.name!r} is given "
            "(Site.text_through), so that a negative text cannot take the same way."
        )
    return site.text_through[0], site.text_through[-1]


def _place(where: NormLocation) -> int:
    """The text's softmax is the last one: Wan attends to the picture's keys before it."""
    return sum(norm_of(where.attention, keys) is not None for keys in where.attention_site.keys) - 1
