"""Context parallelism: each process holds a part of every sequence."""

from __future__ import annotations

from torch import nn


def is_context_parallel(transformer: nn.Module) -> bool:
    """Whether several processes share the tokens of this transformer, as `enable_parallelism` of diffusers has it."""
    config = getattr(transformer, "_parallel_config", None)
    return getattr(config, "context_parallel_config", None) is not None
