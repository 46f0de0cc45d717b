"""What each video token looks at, in a few numbers: the rows of a block's attention matrix, randomly projected.

A row has one weight per key, and the matrix does not fit in memory. A random projection of the keys keeps the distances
between rows (Johnson and Lindenstrauss, 1984), which is all that principal components need: with 128 columns a squared
distance is right within 12 % (one standard deviation, √(2/128)); with fewer keys than that nothing is lost. The
projected rows are one fused attention call with the projection as its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from alignvid.analysis.observation import Observation
from alignvid.analysis.observe import check_observable
from alignvid.analysis.origin import origin_of
from alignvid.analysis.recorder import Passage, query_streams, slices_of
from alignvid.analysis.sites import ObservedSite, Softmax, observed_sites
from alignvid.analysis.tiles import exactly
from alignvid.analysis.trace import Trace
from alignvid.blocks import BlockSet
from alignvid.errors import ObservationError
from alignvid.host.clock import StepClock
from alignvid.host.transformers import Host, hosts
from alignvid.schedule import StepWindow

_COLUMNS = 128  # of the projection; see the module's docstring
_VIDEO = "video"


class BlockPlace(NamedTuple):
    """One block of one transformer of a pipeline."""

    host: str
    stack: str
    block: int


@dataclass
class TokenRows:
    """Projected attention rows of the video tokens by block, summed over the forwards that were observed."""

    sums: dict[BlockPlace, Float[Tensor, "token column"]] = field(default_factory=dict)
    counts: dict[BlockPlace, int] = field(default_factory=dict)
    grid: tuple[int, int] = (1, 1)
    """Height and width of a latent frame in tokens."""
    clock: StepClock | None = None

    needs_grid = True

    @property
    def is_complete(self) -> bool:
        """Whether no later step of the running schedule will be observed."""
        return self.clock is not None and self.clock.is_past_window

    def mean(self, place: BlockPlace) -> Float[Tensor, "token column"]:
        """The mean over the observed forwards."""
        return self.sums[place] / self.counts[place]

    def record(self, passages: Sequence[Passage]) -> None:
        """Add up passages of the conditional branch, in the first schedule of a run.

        Raises: ObservationError if there is NaN or infinity among the rows.
        """
        for passage in passages:
            branches = passage.place.branches(len(passage.softmaxes[0].call.query))
            samples = branches.get("cond", branches.get("unknown"))
            if samples is not None and passage.place.section == 0:
                self._add(passage, samples)

    def _add(self, passage: Passage, samples: slice) -> None:
        softmax = _softmax_over_video(passage.softmaxes)
        queries = slices_of(query_streams(passage.site, softmax, passage.place.token_counts))[_VIDEO]
        rows = _rows_of(softmax, samples, queries).cpu()
        parts = (rows, softmax.call.query[samples], softmax.call.key[samples])
        if not all(part.isfinite().all() for part in parts):  # a fused kernel can make zeros of NaN
            raise ObservationError(
                f"{passage.not_finite} it cannot be measured; choose the dtype bfloat16 or float32, or other steps."
            )
        place = BlockPlace(passage.site.host, passage.site.stack, passage.site.block)
        self.grid = passage.place.grid
        self.sums[place] = self.sums[place] + rows if place in self.sums else rows
        self.counts[place] = self.counts.get(place, 0) + 1


@contextmanager
def observe_token_rows(pipeline: Any, *, steps: StepWindow) -> Iterator[TokenRows]:
    """While its block runs, collect the attention rows of the video tokens in every main block of a pipeline.

    Of each block, the attention in which video tokens look at video tokens: self- or joint attention. Outputs are
    bit-equal to those of an unobserved run.

    Raises: ObservationError if the model has no such attention on a known grid, or cannot be overheard.
    """
    found = hosts(pipeline)
    sites = [site for host in found for site in _sites_of(host, pipeline)]
    if not sites:
        names = ", ".join(type(host.transformer).__name__ for host in found)
        raise ObservationError(
            f"{names} has no attention of video tokens whose grid is known; give its family `grids`, as "
            "docs/families.md shows."
        )
    check_observable(found, sites, steps, {})
    clock = StepClock(steps, pipeline)
    rows = TokenRows(clock=clock)
    trace = Trace(origin_of(found, BlockSet.of("all"), steps))
    with Observation(pipeline, trace, found, sites, clock, rows):
        yield rows


@exactly
def attention_rows(
    query: Float[Tensor, "batch head query size"],
    key: Float[Tensor, "batch key_head key size"],
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch query column"]:
    """Rows of the attention matrix, mean over heads, as they are if there are few keys, else randomly projected."""
    query, key = query.float(), key.float()
    heads, size = query.shape[1], query.shape[3]
    key = key.repeat_interleave(heads // key.shape[1], 1)
    mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
    projection = _projection(key.shape[2], query.device)
    parts = []
    for columns in projection.split(size, 1):  # as many as the head has, so that fused kernels take them
        value = F.pad(columns, (0, size - columns.shape[1])).expand(*key.shape[:2], -1, -1)
        projected = F.scaled_dot_product_attention(query, key, value, mask, scale=scale)
        parts.append(projected[..., : columns.shape[1]].mean(1))
    return torch.cat(parts, -1)


def _projection(keys: int, device: torch.device) -> Float[Tensor, "key column"]:
    """The same for every block and step, so that rows can be added."""
    if keys <= _COLUMNS:
        return torch.eye(keys, device=device)
    drawn = torch.randn(keys, _COLUMNS, generator=torch.Generator().manual_seed(0))
    return (drawn * _COLUMNS**-0.5).to(device)


def _rows_of(softmax: Softmax, samples: slice, queries: slice) -> Float[Tensor, "token column"]:
    call = softmax.call
    mask = call.mask
    if mask is not None:
        mask = mask if mask.shape[-2] == 1 else mask[..., queries, :]
        mask = mask if mask.ndim < 4 or mask.shape[0] == 1 else mask[samples]
    return attention_rows(call.query[samples, :, queries], call.key[samples], mask=mask, scale=call.scale).mean(0)


def _sites_of(host: Host, pipeline: Any) -> list[ObservedSite]:
    on_grid = {target.partition(".")[0] for target in host.family.grids if target.endswith(f".{_VIDEO}")}
    main = {stack.name for stack in host.family.stacks_of(host.transformer, pipeline) if stack.is_main}
    return [
        site
        for site in observed_sites(host, pipeline, BlockSet.of("all"))
        if site.site in on_grid and site.stack in main
    ]


def _softmax_over_video(softmaxes: Sequence[Softmax]) -> Softmax:
    return next(softmax for softmax in softmaxes if _VIDEO in [stream.name for stream in softmax.keys])
