"""What cannot be acted on as a model is now: foreign processors, replaced norms, parts of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from alignvid.attachment.placement import Placement
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.contract import Contract
from alignvid.host.parallel import is_context_parallel
from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation

EXPORT_PROBLEM = (
    "AlignVid is attached, and a trace would keep the gain of one step for ever: detach with alignvid.detach, "
    "export, and attach again."
)


def foreign_site(placements: Sequence[Placement]) -> NormLocation | None:
    """The first place whose attention runs a processor that is not diffusers'."""
    return next((item.location for item in placements if item.location.foreign_processor), None)


def warn_of_processor(contract: Contract, site: NormLocation) -> None:
    """Whether it runs the key norm cannot be seen from outside."""
    contract.warn(
        "foreign processor",
        f"The attentions of `{site.stack}` run {site.foreign_processor}, which is not diffusers': where it leaves "
        f"out {site.keys.path}, the gain does nothing. Compare a run with gamma=1.35 to one without, or give them "
        "diffusers' processor back.",
    )


def refuse_replaced(locations: Sequence[NormLocation]) -> None:
    """A LoRA that is loaded or taken off puts another module in a projection's place, or in that of a norm trained in
    full: the gain would miss a part, or act on nothing.
    """
    if replaced := next((location for location in locations if location.is_elsewhere), None):
        raise AttachmentError(
            f"{replaced.keys.path} of block {replaced.block} of `{replaced.stack}` is another module than when "
            "the gain was attached (a LoRA was loaded or taken off?): detach and attach again."
        )


def refuse_reached(kind: str, placements: Sequence[Placement]) -> None:
    """Raises: UnknownTarget where keys are not those of a norm, which all but a gain on whole streams look at."""
    if reached := [item.location for item in placements if item.location.keys.reach is not None]:
        raise UnknownTarget(
            f"The attention {reached[0].site!r} of this model runs no key norm that can be looked at, so that a "
            f"modulation of kind {kind!r} cannot act there: use a scalar one, or choose other streams."
        )


def refuse_export(host: Host) -> None:
    """Raises: AttachmentError while torch.export traces the transformer."""
    if torch.compiler.is_exporting():
        raise AttachmentError(f"The {host.name} cannot be exported: {EXPORT_PROBLEM}")


def refuse_trace(host: Host) -> None:
    """Raises: AttachmentError while torch.jit.trace (torch.onnx.export) or make_fx does; dynamo cannot trace this."""
    if torch._C._get_tracing_state() is not None or (torch._C._len_torch_dispatch_stack() and get_proxy_mode()):
        raise AttachmentError(f"The {host.name} cannot be exported: {EXPORT_PROBLEM}")


def refuse_parts(host: Host, modulation: Modulation, placements: Sequence[Placement]) -> None:
    """Refuse what needs a sequence whole where each process holds a part of it.

    A gain on all the keys of a norm is right on any part of them. One on a stream of several that share a norm would
    have to know which of them lie in this process's part, and the other modulations look at the sequence as a whole.
    Raises: AttachmentError if the transformer runs on parts of its sequences and the modulation needs them whole.
    """
    if not is_context_parallel(host.transformer):
        return
    problem = f"The {host.name} runs with context parallelism, where each process holds a part of every sequence: "
    if not modulation.is_uniform:
        raise AttachmentError(
            f"{problem}a modulation of kind {modulation.kind!r} needs the whole. Use a scalar one, or leave "
            "enable_parallelism out."
        )
    shared = {item.location.site for item in placements if not item.is_uniform}
    sliced = [
        f"{item.location.site}.{stream}" for item in placements if not item.is_uniform for stream, _ in item.gains
    ]
    if sliced:
        raise AttachmentError(
            f"{problem}the tokens of {', '.join(dict.fromkeys(sliced))} cannot be distinguished from others under the "
            f"same key norm. Give all of a norm one gain, such as streams={[f'{site}.*' for site in sorted(shared)]}, "
            "choose streams with a norm of their own, or leave enable_parallelism out."
        )


def refuse_of_pipeline(pipeline: Any, schedule: Any, passes: Any) -> None:
    """Refuse what a bare transformer alone is given. Raises: AttachmentError for a pipeline, which has its own."""
    given = [name for name, value in (("schedule", schedule), ("passes", passes)) if value is not None]
    if pipeline is not None and given:
        raise AttachmentError(
            f"{' and '.join(given)} cannot be given for {type(pipeline).__name__}, whose scheduler and guidance say "
            f"{'it' if len(given) == 1 else 'them'}; leave {'it' if len(given) == 1 else 'them'} out, or attach to its "
            "transformer alone."
        )
