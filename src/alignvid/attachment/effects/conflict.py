"""Conflict-aware gain (CAS): formulas, and the effects that scale each query by its conflict while the model runs.

    C = max(A_img − A_text, 0) / (A_img + A_text + ε) · H, clipped to 0 ≤ C ≤ gamma − 1;  γ = 1 + C

A_img, A_text and H are those of one softmax over the image and the text keys together, also where the model has two
separate ones (Wan): within each of two softmaxes the mass is 1 and could not be compared. In joint attention, as in
FramePack, they are those of its own softmax, after rotation, which holds other keys too. H is the entropy divided by
log(number of keys), from 0 (one key) to 1 (uniform). Each head has its own C. Rows of queries are taken in tiles, so
memory is linear in the tokens.

Source: Attention Scaling Modulation of arXiv 2512.01334, conflict-aware; it leaves A across two softmaxes and the
normalisation of H open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, State, SwitchedEffect
from alignvid.attachment.effects.attention_call import AttentionEffect, call_effects
from alignvid.attachment.placement import Placement
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.sites import NormLocation, head_count
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall
from alignvid.modulation.conflict import ConflictAware

KeysOf = Callable[[nn.Module, Tensor, Mapping[str, Any]], dict[str, Tensor]]

_EPSILON = 1e-6  # A_img + A_text is 1 in cross-attention; in joint attention other keys may have nearly everything
_TILE_LOGITS = 2**24  # 64 MiB of float32 for each intermediate result


class Shares(NamedTuple):
    """How each query spreads its attention over image and text keys."""

    image_mass: Float[Tensor, "batch heads query"]
    text_mass: Float[Tensor, "batch heads query"]
    entropy: Float[Tensor, "batch heads query"]
    """Divided by log(number of keys): from 0 to 1."""


def attention_shares(
    queries: Float[Tensor, "batch query heads size"],
    image_keys: Float[Tensor, "batch image heads size"],
    text_keys: Float[Tensor, "batch text heads size"],
) -> Shares:
    """Masses and normalised entropy under one softmax over both groups of keys."""
    keys = torch.cat([image_keys, text_keys], 1)
    logits = torch.einsum("bqhd,bkhd->bhqk", queries / math.sqrt(queries.shape[-1]), keys).float()
    logits = logits - logits.amax(-1, keepdim=True)
    weights = logits.exp()  # not log_softmax: eight times slower on a CPU
    image, text = (part.sum(-1) for part in weights.split([image_keys.shape[1], text_keys.shape[1]], -1))
    total = image + text
    mean_logit = torch.einsum("bhqk,bhqk->bhq", weights, logits) / total
    return Shares(image / total, text / total, (total.log() - mean_logit) / math.log(keys.shape[1]))


def conflict(shares: Shares, cap: float) -> Float[Tensor, "batch heads query"]:
    """C, from 0 to cap: large where attention lies on the image and is diffuse."""
    image, text, entropy = shares
    return ((image - text).clamp(min=0.0) / (image + text + _EPSILON) * entropy).clamp(0.0, cap)


def tiled_conflict(
    queries: Float[Tensor, "batch query heads size"],
    image_keys: Float[Tensor, "batch image heads size"],
    text_keys: Float[Tensor, "batch text heads size"],
    cap: float,
    tile_logits: int,
) -> Float[Tensor, "batch heads query"]:
    """C of every query, with no more than `tile_logits` logits in memory at a time (but one row at least)."""
    batch, _, heads, _ = queries.shape
    rows = max(1, tile_logits // (batch * heads * (image_keys.shape[1] + text_keys.shape[1])))
    tiles = [conflict(attention_shares(tile, image_keys, text_keys), cap) for tile in queries.split(rows, 1)]
    return torch.cat(tiles, -1)


def joint_shares(asked: AttentionCall, sizes: Sequence[int], streams: Sequence[str]) -> Shares:
    """Masses and normalised entropy under the softmax that an attention asks for, whatever else it holds.

    A query that may look at one key or none has an entropy of 0.

    Args:
        asked: the attention call.
        sizes: keys of each stream, in order.
        streams: their names.
    """
    keys = asked.key.repeat_interleave(asked.query.shape[2] // asked.key.shape[2], 2)  # several heads may share keys
    logits = torch.einsum("bqhd,bkhd->bhqk", asked.query * asked.scale, keys).float()
    if asked.mask is not None:
        is_bool = asked.mask.dtype == torch.bool
        logits = logits.masked_fill(~asked.mask, -torch.inf) if is_bool else logits + asked.mask
    weights = (logits - logits.amax(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)).exp()
    by_stream = dict(zip(streams, (part.sum(-1) for part in weights.split(list(sizes), -1)), strict=True))
    total = weights.sum(-1).clamp(min=torch.finfo(logits.dtype).tiny)
    entropy = total.log() - torch.special.xlogy(weights, weights).sum(-1) / total
    most = (logits > -torch.inf).sum(-1).clamp(min=2).log()
    return Shares(by_stream["image"] / total, by_stream["text"] / total, entropy / most)


def tiled_joint_conflict(
    asked: AttentionCall, sizes: Sequence[int], streams: Sequence[str], cap: float, tile_logits: int
) -> Float[Tensor, "batch heads query"]:
    """C of every query of an attention call, with no more than `tile_logits` logits in memory (but one row at least).

    Raises: AttachmentError for a mask that is not (batch, heads, query, key), each of the first three perhaps 1.
    """
    if asked.mask is not None and asked.mask.ndim != 4:
        raise AttachmentError(
            f"The attention runs with a mask of {asked.mask.ndim} axes, where conflict-aware scaling reads one of "
            "(batch, heads, query, key); use another modulation here."
        )
    batch, count, heads, _ = asked.query.shape
    rows = max(1, tile_logits // (batch * heads * asked.key.shape[1]))
    masks = (
        [asked.mask] * -(-count // rows)
        if asked.mask is None or asked.mask.shape[2] == 1
        else asked.mask.split(rows, 2)
    )
    tiles = [
        conflict(joint_shares(asked._replace(query=query, mask=mask), sizes, streams), cap)
        for query, mask in zip(asked.query.split(rows, 1), masks, strict=True)
    ]
    return torch.cat(tiles, -1)


class NotedKeys(State):
    """The keys of the attention that is running, by stream."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, Tensor] = {}


class KeysInAdvance(Effect):
    """Notes the keys of the attention that is about to run, for the whole batch, by its projections and norms."""

    state_type = NotedKeys
    is_neutral_in_graph = False

    def __init__(self, keys_of: KeysOf) -> None:
        """`keys_of`: see `Site.keys_in_advance`."""
        super().__init__()
        self.keys_of = keys_of

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments, untouched."""
        states = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[1]
        self.now.keys = self.keys_of(module, states, kwargs)
        return args, kwargs


class ConflictGain(SwitchedEffect):
    """Scales queries by their conflict with the keys noted before."""

    is_neutral_in_graph = False

    def __init__(self, modulation: ConflictAware, keys: KeysInAdvance, heads: int) -> None:
        super().__init__()
        self.cap = modulation.gamma - 1.0
        self.keys = keys
        self.heads = heads

    def on_output(self, output: Float[Tensor, "batch query width"]) -> Float[Tensor, "batch query width"]:
        """The queries, scaled."""
        noted = self.keys.now
        keys, noted.keys = noted.keys, {}
        queries, image, text = (
            tokens.unflatten(-1, (self.heads, -1)) for tokens in (output, keys["image"], keys["text"])
        )
        amount = tiled_conflict(queries, image, text, self.cap, _TILE_LOGITS)
        gain = 1.0 + self.switch_like(amount) * amount
        return (queries * gain.transpose(1, 2).unsqueeze(-1)).to(output.dtype).flatten(-2)


class ConflictOfCall(AttentionEffect):
    """Scales the queries of joint attention by their conflict, where they and the keys are rotated."""

    def __init__(self, cap: float, streams: Sequence[str]) -> None:
        """`cap`: the largest C; `streams`: of the keys, in the order of the softmax."""
        super().__init__(streams)
        self.cap = cap

    def on_call(self, asked: AttentionCall) -> AttentionCall:
        """The call with its queries scaled."""
        amount = tiled_joint_conflict(asked, self.sizes(asked), self.streams, self.cap, _TILE_LOGITS)
        gain = 1.0 + self.switch_like(amount) * amount
        return asked._replace(query=(asked.query * gain.transpose(1, 2).unsqueeze(-1)).to(asked.query.dtype))


def conflict_effects(modulation: ConflictAware, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """A gain on the queries of each attention that meets text and image: at their norm where its keys can be made in
    advance, else at the attention call.

    Raises: UnknownTarget if no attention meets both, or one that does cannot be acted on.
    """
    by_attention: dict[int, list[Placement]] = {}
    for item in placements:
        by_attention.setdefault(id(item.location.attention), []).append(item)
    both = [
        items for items in by_attention.values() if {"text", "image"} <= {s for item in items for s, _ in item.powers}
    ]
    if not both:
        met = sorted({f"{item.location.site}.{stream}" for item in placements for stream, _ in item.powers})
        raise UnknownTarget(
            f"No attention of {type(host.transformer).__name__} in the chosen blocks meets text and image keys at "
            f"once; it has {', '.join(met)}. {ConflictAware.requirement}"
        )
    ahead = [items[0].location for items in both if items[0].location.attention_site.keys_in_advance is not None]
    rest = [item for items in both if items[0].location.attention_site.keys_in_advance is None for item in items]
    cap = modulation.gamma - 1.0
    at_call = call_effects(rest, modulation.kind, lambda streams, _: ConflictOfCall(cap, streams))
    return [*_effects_ahead(modulation, ahead), *at_call]


def _effects_ahead(modulation: ConflictAware, locations: Sequence[NormLocation]) -> list[Installed]:
    """Keys noted at each attention's door and a gain on its queries, one of each for all blocks of a site."""
    shared: dict[tuple[object, ...], tuple[KeysInAdvance, ConflictGain]] = {}
    installed = []
    for location in locations:
        keys_of, query_norm, heads = _requirements(location)
        kind = (location.site, keys_of, heads)
        if kind not in shared:
            keys = KeysInAdvance(keys_of)
            shared[kind] = keys, ConflictGain(modulation, keys, heads)
        keys, gain = shared[kind]
        installed += [Installed(location.attention, keys, False), Installed(query_norm, gain)]
    return installed


def _requirements(location: NormLocation) -> tuple[KeysOf, nn.Module, int]:
    """What makes the keys of an attention in advance, the norm of its queries, and how many heads it has."""
    heads, keys_of = head_count(location.attention), location.attention_site.keys_in_advance
    if keys_of is None or location.queries is None or heads is None:
        raise UnknownTarget(
            f"The keys of the attention {location.site!r} are not known before its queries pass. "
            f"{ConflictAware.requirement} Use a scalar or energy modulation here."
        )
    return keys_of, location.queries, heads
