"""Which attentions are observed, and which streams their keys and queries belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from alignvid.analysis.softmaxes import SoftmaxCall
from alignvid.blocks import BlockSet
from alignvid.errors import ObservationError
from alignvid.host.sites import chosen_blocks, norm_of
from alignvid.host.transformers import Host
from alignvid.models.family import KeyNorm, Stack
from alignvid.models.fit import check_fit
from alignvid.models.paths import blocks_of, descend


class Stream(NamedTuple):
    """A run of tokens on a sequence axis."""

    name: str
    length: int


class ObservedSite(NamedTuple):
    """One attention of one block."""

    host: str
    stack: str
    block: int
    site: str
    attention: nn.Module
    keys: tuple[KeyNorm, ...]
    """Norms of its keys that this model has, in the order in which a joint attention joins them."""
    norms: tuple[nn.Module, ...]
    """Their modules; a neutral one is still to be put in."""
    query_names: tuple[str, ...]
    """Streams of its queries, in order."""
    joint_order: tuple[str, ...] = ()
    """Streams in the order of a joint softmax, where its norms run in another one."""

    @property
    def has_own_queries(self) -> bool:
        """Whether the tokens that ask are those that are looked at: self- and joint attention."""
        return self.query_names == _own_names(self.keys, self.joint_order)

    def __str__(self) -> str:
        return f"{self.site} of block {self.block} of `{self.stack}`"


class Softmax(NamedTuple):
    """One softmax of a site, with the streams of its keys."""

    call: SoftmaxCall
    keys: tuple[Stream, ...]


def observed_sites(host: Host, pipeline: Any, blocks: BlockSet) -> list[ObservedSite]:
    """Every attention in the chosen blocks of a transformer.

    Raises: UnknownTarget if a stack or a block does not exist, UnsupportedModel if the family does not fit.
    """
    check_fit(host.family, host.transformer, pipeline)
    chosen = chosen_blocks(blocks, host, pipeline)
    stacks = host.family.stacks_of(host.transformer, pipeline)
    sites = [site for stack in stacks for site in _sites_of(host, stack, chosen.get(stack.name, ()))]
    _refuse_shared(sites)
    return sites


def _refuse_shared(sites: Sequence[ObservedSite]) -> None:
    """Two sites in one module run one after the other there, and from outside it is not known whose softmax is whose.

    Raises: ObservationError if there are such.
    """
    first: dict[int, ObservedSite] = {}
    for site in sites:
        if (other := first.setdefault(id(site.attention), site)) is not site:
            shared = sorted({item.block for item in sites if item.site == site.site and item.stack == site.stack})
            raise ObservationError(
                f"Attentions {other.site} and {site} run in one module, where they cannot be distinguished; choose "
                f"other blocks than {', '.join(map(str, shared))}."
            )


def split_streams(names: Sequence[str], total: int, token_counts: Mapping[str, int]) -> tuple[Stream, ...]:
    """Streams of a sequence of `total` tokens, in order. One without a known count has the rest; empty ones are left
    out.

    Raises: ObservationError if the counts do not add up.
    """
    counts = [token_counts.get(name) for name in names] if len(names) > 1 else [None]
    rest = total - sum(count for count in counts if count is not None)
    if counts.count(None) > 1 or rest < 0 or (rest > 0 and None not in counts):
        raise ObservationError(
            f"{total} tokens cannot be split into {', '.join(names)} with the counts {dict(token_counts)}: the "
            "family's token counts do not fit this model; see docs/families.md."
        )
    lengths = [rest if count is None else count for count in counts]
    return tuple(Stream(name, length) for name, length in zip(names, lengths, strict=True) if length)


def softmaxes_of(
    site: ObservedSite, calls: Sequence[SoftmaxCall], normed: Mapping[int, Tensor], token_counts: Mapping[str, int]
) -> list[Softmax]:
    """The softmaxes of one pass through a site: one over all of its keys, or one per key norm.

    Args:
        site: the attention.
        calls: what it asked of `scaled_dot_product_attention`, in order.
        normed: outputs of those of its key norms that ran, by their index.
        token_counts: tokens per stream.
    Raises: ObservationError if there was no softmax, or its keys are not those of the norms.
    """
    if not calls:
        raise ObservationError(
            f"Attention {site} asked no softmax of torch's scaled_dot_product_attention "
            f"(attention backend: {_backend(site)}), so there is nothing to observe; choose the backend with "
            'transformer.set_attention_backend("native"), or blocks without that attention.'
        )
    calls = [call for call in calls if not call.is_causal] or calls  # text that looks back on itself, beside the video
    if unmeasured := [call for call in calls if call.is_causal or call.query.ndim != 4]:
        raise ObservationError(
            f"Attention {site} is {'causal' if unmeasured[0].is_causal else 'not over (batch, head, token, size)'}, "
            "which is not measured; choose blocks without it."
        )
    by_norm = {
        index: split_streams(site.keys[index].streams, output.shape[site.keys[index].sequence_dim], token_counts)
        for index, output in sorted(normed.items())
    }
    joined = tuple(stream for streams in by_norm.values() for stream in streams)
    if site.joint_order:
        joined = tuple(sorted(joined, key=lambda stream: site.joint_order.index(stream.name)))
    if len(calls) == 1 and calls[0].key.shape[2] == sum(stream.length for stream in joined):
        return [Softmax(calls[0], joined)]
    return [Softmax(call, by_norm[_norm_of(site, call, normed)]) for call in calls]


def _sites_of(host: Host, stack: Stack, blocks: Sequence[int]) -> Iterator[ObservedSite]:
    modules = blocks_of(host.transformer, stack.name)
    hidden = stack.sites[0].keys[0].streams  # the tokens that the blocks pass on, of which queries are made
    for block in blocks:
        for site in stack.sites:
            attention = descend(modules[block], site.path)
            norms = {} if attention is None else {keys: norm_of(attention, keys) for keys in site.keys}
            present = {keys: norm for keys, norm in norms.items() if norm is not None}
            if attention is not None and present and not site.refusal and site.is_in(block):
                where = (host.name, stack.name, block, site.name)
                names = site.queries or _query_names(_own_names(tuple(present), site.joint_order), hidden)
                norms = tuple(present.values())
                yield ObservedSite(*where, attention, tuple(present), norms, names, site.joint_order)


def _own_names(keys: Sequence[KeyNorm], joint_order: tuple[str, ...]) -> tuple[str, ...]:
    return joint_order or tuple(name for norm in keys for name in norm.streams)


def _query_names(own: tuple[str, ...], hidden: tuple[str, ...]) -> tuple[str, ...]:
    """In self- and joint attention every token asks; in cross-attention the hidden ones do."""
    return own if set(hidden) <= set(own) else hidden


def _norm_of(site: ObservedSite, call: SoftmaxCall, normed: Mapping[int, Tensor]) -> int:
    """Which norm's keys a softmax is over: those of the same number, and, if two have it, in the same memory."""
    key = call.key
    fitting = [i for i, output in normed.items() if output.shape[site.keys[i].sequence_dim] == key.shape[2]]
    if len(fitting) > 1:
        fitting = [index for index in fitting if normed[index].data_ptr() == key.data_ptr()]
    if len(fitting) == 1:
        return fitting[0]
    counts = ", ".join(
        f"{output.shape[site.keys[i].sequence_dim]} from {site.keys[i].path}" for i, output in sorted(normed.items())
    )
    raise ObservationError(
        f"Attention {site} has a softmax over {key.shape[2]} keys, where its key norms gave other ones ({counts}): it "
        "leaves out padding, attends in parts or keeps keys of other forwards, which is not measured; or the family "
        "does not fit this model, see docs/families.md."
    )


def _backend(site: ObservedSite) -> str:
    backend = getattr(getattr(site.attention, "processor", None), "_attention_backend", None)
    return str(getattr(backend, "value", backend) or "the default one")
