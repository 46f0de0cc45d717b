"""Keys scaled by hooks by hand, in the forwards of a loop that a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

Scale = Callable[[str, Tensor], Tensor]
"""From the path of a norm and its keys: the keys as they must be."""


class Now:
    """Whether the forward that is running is acted on."""

    acts = False


def scaled(modules: Iterable[nn.Module], ends: tuple[str, ...], scale: Scale, now: Now, run: Callable[[], Any]) -> Any:
    """What `run` gives with the output of each norm whose path ends so scaled, while `now.acts`."""
    with ExitStack() as stack:
        for module in modules:
            for path, norm in module.named_modules():
                if path.endswith(ends):
                    hook = norm.register_forward_hook(
                        lambda _, __, keys, path=path: scale(path, keys) if now.acts else keys
                    )
                    stack.callback(hook.remove)
        return run()


def multiplied(keys: Tensor, factor: float, dim: int, start: int, stop: int) -> Tensor:
    """A copy with some tokens multiplied."""
    keys = keys.clone()
    keys.narrow(dim, start, stop - start).mul_(factor)
    return keys
