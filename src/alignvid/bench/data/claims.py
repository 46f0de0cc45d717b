"""Claims about the end of a made clip, which a rule can check: "exactly two shapes", "a red circle at the top left".

A claim's id says all of it, so that the id of a question is enough to answer it: QUANTITY-COLOUR-KIND-SIZE-CELL, with
"any" for what is left open. "some-red-circle-any-4": in cell 4 there is a red circle of whatever size.
"0-red-circle-any-any": there is no red circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from alignvid.errors import InputError
from alignvid.miniature.scenes import CELLS, PALETTE, SHAPE_KINDS, SIZES, Shape, ShapeKind, Size

_ANY, _SOME = "any", "some"


@dataclass(frozen=True)
class Claim:
    """How many shapes of a description there are at the end. None in the description: whatever it is."""

    quantity: int | None = None
    """Exactly so many cells hold one; None: at least one does."""
    colour: str | None = None
    kind: ShapeKind | None = None
    size: Size | None = None
    cell: int | None = None

    @property
    def id(self) -> str:
        """All of it, as the id of a question."""
        described = (self.colour, self.kind, self.size, self.cell)
        quantity = _SOME if self.quantity is None else str(self.quantity)
        return "-".join([quantity, *(_ANY if part is None else str(part) for part in described)])

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Read an `id`. Raises: InputError if it is none."""
        parts = text.split("-")
        options = ((*map(str, range(len(CELLS) + 1)), _SOME), PALETTE, SHAPE_KINDS, SIZES, tuple(map(str, CELLS)))
        if len(parts) != len(options) or not all(
            part in known or (part == _ANY and known is not options[0])
            for part, known in zip(parts, options, strict=True)
        ):
            raise InputError(f"{text!r} is no question of OmitShapes; its ids look like 'some-red-circle-any-4'.")
        quantity, colour, kind, size, cell = (None if part in (_ANY, _SOME) else part for part in parts)
        return cls(
            quantity=None if quantity is None else int(quantity),
            colour=colour,
            kind=next((known for known in SHAPE_KINDS if known == kind), None),
            size=next((known for known in SIZES if known == size), None),
            cell=None if cell is None else int(cell),
        )

    def holds(self, is_there: Callable[[Shape], bool]) -> bool:
        """Whether it is true of what was seen: `is_there` says of a shape whether it is in its cell."""
        return self._counts({shape.cell for shape in self.shapes() if is_there(shape)})

    def is_true_of(self, shapes: Iterable[Shape]) -> bool:
        """Whether it is true of a scene of these shapes."""
        return self._counts({shape.cell for shape in shapes if self._fits(shape)})

    def shapes(self) -> Iterator[Shape]:
        """Every shape that fits the description."""
        return (
            Shape(kind, colour, cell, size)
            for kind, colour, cell, size in product(
                SHAPE_KINDS if self.kind is None else (self.kind,),
                PALETTE if self.colour is None else (self.colour,),
                CELLS if self.cell is None else (self.cell,),
                SIZES if self.size is None else (self.size,),
            )
        )

    def is_about_the_same_as(self, other: Claim) -> bool:
        """Whether the descriptions are equal, so that one answer gives the other away."""
        return replace(self, quantity=None) == replace(other, quantity=None)

    def _counts(self, cells: set[int]) -> bool:
        return bool(cells) if self.quantity is None else len(cells) == self.quantity

    def _fits(self, shape: Shape) -> bool:
        return all(
            wanted in (None, there)
            for wanted, there in (
                (self.colour, shape.colour),
                (self.kind, shape.kind),
                (self.size, shape.size),
                (self.cell, shape.cell),
            )
        )
