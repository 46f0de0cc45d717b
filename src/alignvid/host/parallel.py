"""Context parallelism: what cannot act where each process holds a part of every sequence.

A gain on all the keys of a norm is right on any part of them. One on a stream of several that share a norm would have
to know which of them lie in this process's part, and the other modulations look at the sequence as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from alignvid.attachment.placement import Placement
from alignvid.errors import AttachmentError
from alignvid.models.registry import Host
from alignvid.modulation import Modulation, Scalar


def is_context_parallel(transformer: nn.Module) -> bool:
    """Whether several processes share the tokens of this transformer, as `enable_parallelism` of diffusers has it."""
    config = getattr(transformer, "_parallel_config", None)
    return getattr(config, "context_parallel_config", None) is not None


def refuse_parts(host: Host, modulation: Modulation, placements: Sequence[Placement]) -> None:
    """Raises: AttachmentError if the transformer runs on parts of its sequences and the modulation needs them whole."""
    if not is_context_parallel(host.transformer):
        return
    problem = f"The {host.name} runs with context parallelism, where each process holds a part of every sequence: "
    if not isinstance(modulation, Scalar):
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
            f"{problem}the tokens of {', '.join(dict.fromkeys(sliced))} cannot be told from others under the same key "
            f"norm. Give all of a norm one gain, such as streams={[f'{site}.*' for site in sorted(shared)]}, choose "
            "streams with a norm of their own, or leave enable_parallelism out."
        )
