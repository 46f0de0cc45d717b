"""Work that variants have in common, done once: encodings of a sample, and the trajectory until variants part.

Nothing of a pipeline's loop is copied or changed. A pipeline runs as ever, and where one of its networks is called a
second time with the very same arguments, it gets a copy of what the first call gave. The arguments are compared by a
digest of their bits, so equal videos are certain: schedulers, random numbers and decoding all run again.

For a transformer the arguments are not enough: what acts inside it counts too. Two forwards are the same if nothing
acts in either, or the same modulation on the same blocks and samples at the same noise level.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from alignvid.attachment.call import Acting
from alignvid.attachment.gated import acting_on, take_over
from alignvid.host.clock import StepClock
from alignvid.host.transformers import Host, hosts
from alignvid.models.family import Arguments
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

Forward = Callable[..., Any]
Wrap = Callable[[Forward], Forward]


class Encodings:
    """What text encoders, image encoders and the autoencoder's encoder gave, by their arguments."""

    def __init__(self, pipeline: Any) -> None:
        """Nothing is kept yet."""
        self._pipeline = pipeline
        self._kept: dict[tuple[str, bytes], Any] = {}

    def forget(self) -> None:
        """Drop everything, before other samples."""
        self._kept.clear()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside the block, an encoder that is called again with the same arguments does not run.

        What a family must see of it (`Reads.watch`) is seen from the first call on, whatever is attached by then.
        """
        found = hosts(self._pipeline)
        transformers = {id(host.transformer) for host in found}
        with ExitStack() as stack:
            for watch in {host.family.reads.watch for host in found if host.family.reads.watch is not None}:
                for handle in watch(self._pipeline):
                    stack.callback(handle.remove)
            for name, part in self._pipeline.components.items():
                if not isinstance(part, nn.Module) or id(part) in transformers:
                    continue
                method = "encode" if hasattr(part, "encode") and hasattr(part, "decode") else "forward"
                stack.enter_context(_replaced(part, method, self._once(name)))
            yield

    def _once(self, name: str) -> Wrap:
        def wrap(plain: Forward) -> Forward:
            def call(*args: Any, **kwargs: Any) -> Any:
                digest = digest_of(args, kwargs)
                if digest is None:
                    return plain(*args, **kwargs)
                if (name, digest) not in self._kept:
                    self._kept[name, digest] = copied(plain(*args, **kwargs))
                return copied(self._kept[name, digest])

            return call

        return wrap


class Trajectories:
    """What transformers predicted, by their arguments and by what acted in them; kept if a later variant needs it."""

    def __init__(self, pipeline: Any) -> None:
        """Nothing is kept yet."""
        self._pipeline = pipeline
        self._kept: dict[tuple[str, str, bytes], Any] = {}
        self._recipe: Recipe | None = None
        self._followers: list[tuple[Recipe | None, StepClock]] = []
        self._may_be_kept = False
        self.forward_count = 0
        """Forwards that really ran."""

    def forget(self) -> None:
        """Drop everything, before other samples, noise, guidance or images."""
        self._kept.clear()

    @contextmanager
    def shared(self, recipe: Recipe | None, followers: Iterable[Recipe | None]) -> Iterator[None]:
        """Inside the block, which runs one variant, a forward that an earlier variant made is not made again.

        Args:
            recipe: What is attached in the block.
            followers: Recipes of the variants that come later, with the same inputs.
        """
        self._recipe = recipe
        self._followers = [(later, StepClock(_window(later), self._pipeline)) for later in followers]
        self._may_be_kept = bool(self._kept)
        with ExitStack() as stack:
            for host in hosts(self._pipeline):
                stack.enter_context(_replaced(host.transformer, "forward", self._once(host)))
            yield

    def _once(self, host: Host) -> Wrap:
        signature = inspect.signature(type(host.transformer).forward)

        def wrap(plain: Forward) -> Forward:
            def call(*args: Any, **kwargs: Any) -> Any:
                acting = acting_on(host)
                self._drop_who_parts(acting, host, signature.bind_partial(None, *args, **kwargs).arguments)
                wanted = self._may_be_kept or bool(self._followers)
                digest = digest_of(args, kwargs) if wanted else None
                key = (host.name, _described(self._recipe, acting), digest or b"")
                if digest is not None and key in self._kept:
                    take_over(host)
                    return copied(self._kept[key])
                self._may_be_kept = False  # from here on nobody has been
                self.forward_count += 1
                output = plain(*args, **kwargs)
                if digest is not None and self._followers:
                    self._kept[key] = copied(output)
                return output

            return call

        return wrap

    def _drop_who_parts(self, acting: Acting | None, host: Host, arguments: Arguments) -> None:
        """Leave only followers that might make this very forward: what nobody will need is not kept.

        To keep too much costs memory and nothing else: a recipe for one CFG branch gets the benefit of the doubt.
        """
        self._followers = [
            (later, clock)
            for later, clock in self._followers
            if _might_be_equal(later, clock.read(host, arguments).is_in_window, self._recipe, acting)
        ]


def digest_of(*values: Any) -> bytes | None:
    """A digest of the bits of tensors and plain values, however nested; None if something else is among them."""
    digest = hashlib.sha256()
    return digest.digest() if _feed(digest, values) else None


def copied(output: Any) -> Any:
    """A copy that shares no tensor with the original: pipelines may change what a network gave them."""
    return copy.deepcopy(output)


def _feed(digest: Any, value: Any) -> bool:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        plain = value.detach().cpu().flatten().clone(memory_format=torch.contiguous_format)  # an expanded one is not
        digest.update(plain.view(torch.uint8).numpy())
        return True
    if isinstance(value, Mapping):
        return _feed(digest, [*value.items()])
    if isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__}{len(value)}".encode())
        return all(_feed(digest, item) for item in value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
        return True
    return False


def _might_be_equal(later: Recipe | None, is_in_window: bool, recipe: Recipe | None, acting: Acting | None) -> bool:
    if later is None or not is_in_window:
        return acting is None
    if acting is None:
        return later.branch != "both"
    return _without_window(later) == _without_window(recipe)


def _described(recipe: Recipe | None, acting: Acting | None) -> str:
    """What acts in a forward, as text: nothing, or all of a recipe but its window."""
    return "" if acting is None else json.dumps([_without_window(recipe), *acting], sort_keys=True)


def _without_window(recipe: Recipe | None) -> dict[str, Any] | None:
    if recipe is None:
        return None
    return {name: value for name, value in recipe.to_dict().items() if name not in ("steps", "branch")}


def _window(recipe: Recipe | None) -> StepWindow:
    return StepWindow.none() if recipe is None else recipe.steps


@contextmanager
def _replaced(owner: Any, method: str, wrap: Wrap) -> Iterator[None]:
    """A method of one object replaced inside the block; whatever stood on the instance comes back."""
    before = vars(owner).get(method)
    setattr(owner, method, wrap(getattr(owner, method)))
    try:
        yield
    finally:
        if before is None:
            delattr(owner, method)
        else:
            setattr(owner, method, before)
