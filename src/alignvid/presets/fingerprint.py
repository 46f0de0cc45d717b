"""What a preset recognises its model by, whichever library's class runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fingerprint:
    """A model's make and sizes, as its host gives them."""

    family: str
    """Family of transformers whose presets may be for it."""
    layers: Mapping[str, int] = field(hash=False)
    """Blocks by stack."""
    heads: int | None = None
    """Attention heads; None if they cannot be read."""
    width: int | None = None
    """Features of a token; None if they cannot be read."""
    image_keys: tuple[int, ...] = ()
    """Features of the embedding of each reference picture that has keys of its own: none for text-to-video, two entries
    for first and last frame."""
    checkpoint: str = ""
    """Where it was loaded from; distinguishes models of one size, such as FramePack and F1."""

    def fits(self, match: Mapping[str, Any]) -> bool:
        """Whether it has every value that a preset's [match] gives."""
        sizes = {
            "layers": dict(self.layers),
            "heads": self.heads,
            "width": self.width,
            "image_keys": list(self.image_keys),
        }
        wanted = {name: value for name, value in match.items() if name in sizes}
        part = match.get("checkpoint_contains", "")
        return all(sizes[name] == value for name, value in wanted.items()) and part.lower() in self.checkpoint.lower()
