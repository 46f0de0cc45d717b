"""Bytes that the gain reads and writes at the released sizes, as arithmetic: real code on tensors without contents.

The released transformer is built in bfloat16 under PyTorch's fake tensors, which know their shape and nothing else, and
runs one forward detached and one attached with the generic preset at an active step. Each operation of a forward is
taken to read its inputs and to write its outputs once; what the attached forward has more is the gain's.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import alignvid
from hosts import HOSTS, BenchedHost, Built, build, noted_tokens


class Operation(NamedTuple):
    """What a tensor operation reads or writes; views are none, for they move nothing."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int


class SizeRow(NamedTuple):
    released_model: str
    tokens: str
    sites: str
    bytes_of_the_gain: str
    of_all_bytes: str
    largest_tensor: str


class OperationLog(TorchDispatchMode):
    """Notes the operations on fake tensors that run inside it, and says to hosts that ask that there is no padding."""

    def __init__(self, conditions: int) -> None:
        """`conditions`: tokens of text and image together."""
        super().__init__()
        self.operations: Counter[Operation] = Counter()
        self._conditions = conditions

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:  # FramePack: how many of them are valid
            return self._conditions
        if func is torch.ops.aten.nonzero.default:  # Mochi: which of the text are valid
            return torch.arange(args[0].numel()).unsqueeze(1)
        output = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not func.is_view:  # others ask for a device or a size
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, torch.Tensor)]
            moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            self.operations[Operation(func.overloadpacket.__name__, shapes, moved)] += 1
        return output


def size_rows(names: Iterable[str] = HOSTS) -> Iterator[SizeRow]:
    """The gain's bytes at an active step of the generic preset, beside those of the whole forward."""
    for name in names:
        host = HOSTS[name]
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Mochi names an autocast that a CPU does not have
            built = released(host, fake)
            plain = operations(built, host, fake)
            with alignvid.attach(built.pipeline, "generic") as attachment, noted_tokens(built) as tokens:
                active = operations(built, host, fake)
        gain = active - plain
        largest = max((shape for operation in gain for shape in operation.shapes), key=math.prod)
        yield SizeRow(
            host.checkpoint,
            f"{tokens[0]:,} + {host.size.text} text",
            str(attachment.site_count),
            f"{moved(gain) / 1e6:,.1f} MB",
            f"{moved(gain) / moved(plain):.4%}",
            "x".join(map(str, largest)),
        )


def released(host: BenchedHost, fake: FakeTensorMode) -> Built:
    torch.set_default_dtype(torch.bfloat16)
    try:
        return build(host, is_tiny=False, drawing=fake)
    finally:
        torch.set_default_dtype(torch.float32)


def operations(built: Built, host: BenchedHost, fake: FakeTensorMode) -> Counter[Operation]:
    """Of one forward; the gate before it still sees real inputs."""
    log = OperationLog(host.size.text + host.size.image)
    with ExitStack() as modes:
        hook = built.pipeline.transformer.register_forward_pre_hook(
            lambda module, args: [modes.enter_context(mode) for mode in (fake, log)] and None
        )
        built.pipeline.transformer(**built.arguments)
    hook.remove()
    return log.operations


def moved(operations: Counter[Operation]) -> int:
    return sum(operation.bytes * count for operation, count in operations.items())
