"""Many ways to ask for an edit: the forms of wordings.toml, and the words that fill them.

Three sets: forms to train on, forms of known words that are held out, and what people might type, often with a word
that is in no form to train on.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from itertools import product
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from alignvid.miniature.scenes import CELLS, EDIT_KINDS, EditKind, Scene, Shape, ShapeKind, Size, cell_at

T = TypeVar("T")
FormSet = Literal["trained", "held_out", "typed"]
FORM_SETS: tuple[FormSet, ...] = ("trained", "held_out", "typed")

NOUN_WORDS: dict[ShapeKind, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot", "ball"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "pyramid", "wedge"),
}
ANY_NOUN = ("one", "shape", "thing")
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet"),
    "yellow": ("yellow", "golden"),
    "green": ("green",),
    "cyan": ("cyan", "turquoise", "teal"),
    "blue": ("blue",),
    "purple": ("purple", "violet", "magenta"),
}
SIZE_WORDS: dict[Size, tuple[str, ...]] = {"small": ("small", "little", "tiny"), "large": ("large", "big")}
ER_WORDS: dict[Size, str] = {"small": "smaller", "large": "larger"}
MORE_WORDS: dict[Size, tuple[str, ...]] = {
    "small": ("smaller", "smaller", "much smaller", "a lot smaller", "half as large", "small", "tiny", "little"),
    "large": ("larger", "larger", "much larger", "a lot larger", "twice as large", "large", "big", "huge"),
}
ROW_WORDS = (("top", "upper"), ("middle", "centre"), ("bottom", "lower"))
COLUMN_WORDS = (("left",), ("middle", "centre"), ("right",))
AT, TO = ("at", "in", "on"), ("to", "to", "into")
PREFIXES = ("please", "can you", "could you", "i want you to", "now")
SUFFIXES = (".", "please", ", please", "!")
NO_IMPERATIVES = ("the", "a", "i", "there", "no", "without", "do", "don", "let", "{")
PLAIN_SHARE = 0.6
"""Of the fillers that are the plainest word; the others share the rest."""
WRAPPED_SHARE = 0.25


class Asked(NamedTuple):
    """A prompt that asks for the edit of a scene, and the form that it is in."""

    text: str
    form: str
    says_size: bool
    """Of a shape to come; of a resize it is always said."""
    says_place: bool
    """Of a shape to come or to move."""


@functools.cache
def forms(form_set: FormSet) -> dict[EditKind, tuple[str, ...]]:
    """Every form of a set, by kind of edit, with its slots still open."""
    table = _table()[form_set]
    expanded: dict[EditKind, list[str]] = {
        kind: [form for pattern in table[kind] for form in ways(pattern)] for kind in EDIT_KINDS
    }
    return {kind: tuple(dict.fromkeys(found)) for kind, found in expanded.items()}


@functools.cache
def reader_words(section: Literal["deleting", "growing", "shrinking"]) -> frozenset[str]:
    """The words by which a reader of prompts knows one kind of change."""
    return frozenset(_table()["reader"][section].split())


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads((files("alignvid.miniature") / "wordings.toml").read_text())


def ways(pattern: str) -> list[str]:
    """What a pattern of (either|or) and [with or without] stands for."""
    parts = re.split(r"(\([^)]*\)|\[[^\]]*\])", pattern)
    options = [_options(part) for part in parts]
    return [re.sub(r" +", " ", "".join(way)).strip() for way in product(*options)]


def _options(part: str) -> list[str]:
    if part.startswith("("):
        return part[1:-1].split("|")
    return ["", part[1:-1]] if part.startswith("[") else [part]


def ask(scene: Scene, rng: np.random.Generator, form_set: FormSet, *, open_share: float) -> Asked:
    """Ask for the edit of a scene in a form of the set; a share of additions leaves the place open."""
    edit = scene.edit
    size: Size | None = None if edit.result is None else edit.result.size
    suitable = [form for form in forms(form_set)[edit.kind] if _suits(form, size)]
    return ask_as(scene, _pick(rng, suitable), rng, open_share=open_share)


def ask_as(scene: Scene, form: str, rng: np.random.Generator, *, open_share: float) -> Asked:
    """Ask for the edit of a scene in this form."""
    old = None if scene.edit.target is None else scene.shapes[scene.edit.target]
    new, kind, says_size = scene.edit.result, scene.edit.kind, False
    at, to = ("", "") if new is None else (_place(new.cell, AT, rng), _place(new.cell, TO, rng))
    is_open = kind == "add" and rng.random() < open_share
    if is_open and new is not None:
        at = _pick(rng, ("in a corner", "in the corner")) if new.cell in (0, 2, 6, 8) and rng.random() < 0.4 else ""
    name = ""
    if kind == "add" and new is not None:
        says_size = new.size == "small" or rng.random() < 0.2
        name = f"{_size(new.size, rng)} " * says_size + f"{_colour(new.colour, rng)} {_noun(new.kind, rng)}"
    filled = form.format(
        new=name,
        old="" if old is None else reference(old, scene, rng, with_place=kind not in ("move", "add")),
        at=at,
        to=to,
        colour="" if new is None else _colour(new.colour, rng),
        more="" if new is None else _usual(rng, MORE_WORDS[new.size]),
        er="" if new is None else ER_WORDS[new.size],
        Larger="",
        Smaller="",
    )
    text = re.sub(r" +", " ", wrapped(filled, form, rng)).strip(" ,:")
    return Asked(text, form, says_size or kind == "resize", kind == "move" or (kind == "add" and not is_open))


def reference(shape: Shape, scene: Scene, rng: np.random.Generator, *, with_place: bool) -> str:
    """What a shape of the scene is called after "the"; it fits no other shape there."""
    draw, colour, noun = rng.random(), _colour(shape.colour, rng), _noun(shape.kind, rng)
    if draw < 0.08:
        return f"{_size(shape.size, rng)} {colour} {noun}"
    if draw < 0.16:
        return f"{colour} {_pick(rng, ANY_NOUN)}"
    if draw < 0.24 and sum(other.kind == shape.kind for other in scene.shapes) == 1:
        return noun
    if draw < 0.28 and with_place:
        return f"{_pick(rng, (noun, 'shape', 'thing'))} {_place(shape.cell, AT, rng)}"
    return f"{colour} {noun}"


def wrapped(filled: str, form: str, rng: np.random.Generator) -> str:
    """The same, sometimes politely, or with a mark at the end."""
    is_imperative = not form.lower().startswith(NO_IMPERATIVES)
    if is_imperative and rng.random() < WRAPPED_SHARE:
        filled = f"{_pick(rng, PREFIXES)} {filled}"
    return f"{filled} {_pick(rng, SUFFIXES)}" if rng.random() < WRAPPED_SHARE else filled


def place_words(cell: int) -> tuple[str, ...]:
    """What a cell is called after "the", the plainest name first."""
    row, column = cell_at(cell)
    rows, columns = ROW_WORDS[row], COLUMN_WORDS[column]
    if row != 1 and column != 1:
        names = tuple(f"{first} {second}" for first in rows for second in columns)
        return (*names, *(f"{name} corner" for name in names))
    if row == column:
        return ("centre", "middle", "centre of the picture", "middle of the picture")
    if column == 1:
        return (*(f"{first} {second}" for first in rows for second in columns), rows[0], f"{rows[0]} edge")
    side = columns[0]
    return (*(f"{first} {side}" for first in rows), side, f"{side} side", f"{side} edge")


def filler_words() -> list[str]:
    """Every word that can stand in a slot or around a form."""
    groups = [*NOUN_WORDS.values(), ANY_NOUN, *COLOUR_WORDS.values(), *SIZE_WORDS.values(), *MORE_WORDS.values()]
    groups += [tuple(ER_WORDS.values()), AT, TO, PREFIXES, SUFFIXES, ("in a corner", "in the corner")]
    groups += [place_words(cell) for cell in CELLS]
    return [word for group in groups for phrase in group for word in phrase.split()]


def _suits(form: str, size: Size | None) -> bool:
    other = "{Smaller}" if size == "large" else "{Larger}"
    return other not in form


def _place(cell: int, prepositions: Sequence[str], rng: np.random.Generator) -> str:
    return f"{_usual(rng, prepositions)} the {_usual(rng, place_words(cell))}"


def _colour(colour: str, rng: np.random.Generator) -> str:
    return _usual(rng, COLOUR_WORDS[colour])


def _noun(kind: ShapeKind, rng: np.random.Generator) -> str:
    return _usual(rng, NOUN_WORDS[kind])


def _size(size: Size, rng: np.random.Generator) -> str:
    return _usual(rng, SIZE_WORDS[size])


def _usual(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[0] if rng.random() < PLAIN_SHARE else _pick(rng, options)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
