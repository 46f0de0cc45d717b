"""What a prompt asks for, read by rule: which kind of edit, of which shape, with which outcome.

The reader knows colours, nouns, places, sizes and the words around them, not the grammar's forms, so that it reads
prompts that people type, and finds in them no more than they say. What it cannot read it refuses.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from alignvid.errors import InputError
from alignvid.miniature.prompts import words
from alignvid.miniature.scenes import CELLS, EditKind, Scene, Shape, ShapeKind, Size
from alignvid.miniature.wordings import (
    ANY_NOUN,
    COLOUR_WORDS,
    ER_WORDS,
    NOUN_WORDS,
    SIZE_WORDS,
    place_words,
    reader_words,
)

CORNERS = frozenset({0, 2, 6, 8})
SIZES_BY_WORD: dict[str, Size] = {word: size for size, names in SIZE_WORDS.items() for word in (*names, ER_WORDS[size])}
COLOURS_BY_WORD = {word: colour for colour, names in COLOUR_WORDS.items() for word in names}
KINDS_BY_WORD: dict[str, ShapeKind] = {word: kind for kind, names in NOUN_WORDS.items() for word in names}
INDEFINITE = frozenset(("a", "an", "another", "one", "more", "new"))
FILLERS = frozenset(("|", "please", ",", "now", "at", "in", "on", "to"))


@dataclass(frozen=True)
class Wanted:
    """What a prompt says of a shape; None: nothing."""

    colour: str | None = None
    kind: ShapeKind | None = None
    size: Size | None = None
    cells: frozenset[int] | None = None
    """Where it may be."""

    def fits(self, shape: Shape) -> bool:
        """Whether a shape is as it is said to be."""
        return (
            self.colour in (None, shape.colour)
            and self.kind in (None, shape.kind)
            and self.size in (None, shape.size)
            and (self.cells is None or shape.cell in self.cells)
        )


@dataclass(frozen=True)
class Request:
    """One edit as a prompt asks for it: of an addition only `outcome` counts, of a deletion only `target`."""

    kind: EditKind
    target: Wanted
    outcome: Wanted
    """What is new: of a recolouring the colour, of a move the cells, of a resize the size."""

    def target_among(self, shapes: Iterable[Shape]) -> Shape | None:
        """The shape that is to change; None for an addition.

        Raises: InputError if no shape, or more than one, is as the prompt says.
        """
        if self.kind == "add":
            return None
        found = [shape for shape in shapes if self.target.fits(shape)]
        if len(found) != 1:
            seen = ", ".join(f"{shape.size} {shape.colour} {shape.kind}" for shape in shapes) or "no shape"
            raise InputError(
                f"The prompt's shape fits {len(found)} of those in the picture ({seen}); "
                "name one by colour, kind or place."
            )
        return found[0]


class _Named(NamedTuple):
    article: str
    wanted: Wanted
    start: int
    end: int


def read_request(prompt: str) -> Request:
    """The edit that a prompt asks for; sentences that describe the picture's background are passed over.

    Raises: InputError if no edit can be read from it.
    """
    clauses = [clause for clause in _clauses(prompt) if "background" not in clause]
    requests = [request for clause in clauses if (request := _read_clause(clause)) is not None]
    if not requests:
        raise InputError(
            f"No edit could be read from {prompt!r}; name a shape by colour and kind, and say what is to happen to it, "
            'such as "turn the red circle blue".'
        )
    return requests[0]


def request_of(scene: Scene, *, says_size: bool, says_place: bool) -> Request:
    """The edit of a known scene, as a prompt asks for it that leaves open what it does not say."""
    edit = scene.edit
    old, new = None if edit.target is None else scene.shapes[edit.target], edit.result
    target = Wanted() if old is None else Wanted(old.colour, old.kind, cells=frozenset({old.cell}))
    if new is None:
        return Request("delete", target, Wanted())
    match edit.kind:
        case "add":
            size, cells = new.size if says_size else None, frozenset({new.cell}) if says_place else None
            return Request("add", target, Wanted(new.colour, new.kind, size, cells))
        case "recolour":
            return Request("recolour", target, Wanted(new.colour))
        case "move":
            return Request("move", target, Wanted(cells=frozenset({new.cell})))
    return Request("resize", target, Wanted(size=new.size))


def _clauses(prompt: str) -> list[list[str]]:
    texts = re.split(r"[.;!?]|, then\b", prompt.lower())
    return [found for text in texts if (found := words(text))]


def _read_clause(clause: list[str]) -> Request | None:
    text = f" {' '.join(clause)} "
    named = _shapes_named(text)
    if not named:
        return None
    shape = max(named, key=lambda each: (each.wanted.kind is not None, each.wanted.colour is not None, -each.start))
    others = [other.wanted.colour for other in named if other is not shape and other.wanted.colour]
    cells, rest = _places(text[: shape.start] + " | " + text[shape.end :])
    articles, found = set(shape.article.split()), set(rest.split())
    colours = [COLOURS_BY_WORD[word] for word in rest.split() if word in COLOURS_BY_WORD] or others
    size = _change_of_size(found)
    if articles & set(SIZES_BY_WORD):
        return Request("resize", shape.wanted, Wanted(size=SIZES_BY_WORD[shape.article.split()[-1]]))
    if "no" in articles:
        return Request("delete", _at(shape.wanted, cells), Wanted())
    if articles & INDEFINITE or not (articles or found - FILLERS):
        wanted = shape.wanted
        return Request("add", Wanted(), Wanted(wanted.colour, wanted.kind, wanted.size, cells))
    if colours:
        return Request("recolour", _at(shape.wanted, cells), Wanted(colours[0]))
    if size is not None:
        return Request("resize", _at(shape.wanted, cells), Wanted(size=size))
    if found & reader_words("deleting") or ("go" in found and not found & {"to", "into"}):
        return Request("delete", _at(shape.wanted, cells), Wanted())
    return None if cells is None else Request("move", shape.wanted, Wanted(cells=cells))


def _at(wanted: Wanted, cells: frozenset[int] | None) -> Wanted:
    return Wanted(wanted.colour, wanted.kind, wanted.size, wanted.cells or cells)


def _change_of_size(found: set[str]) -> Size | None:
    by_word: list[Size] = [SIZES_BY_WORD[word] for word in found if word in SIZES_BY_WORD]
    if found & reader_words("shrinking"):
        return "small"
    if by_word:
        return by_word[0]
    return "large" if found & reader_words("growing") else None


@functools.cache
def _place_pattern() -> re.Pattern[str]:
    names = sorted((name for cell in CELLS for name in place_words(cell)), key=len, reverse=True)
    return re.compile(rf"\b(at|in|on|to|into) (?:the|a) ({'|'.join(map(re.escape, names))}|corner)\b")


@functools.cache
def _shape_pattern() -> re.Pattern[str]:
    def any_of(table: Iterable[str]) -> str:
        return "|".join(sorted(table, key=len, reverse=True))

    article = r"(?P<article>(?:(?:the|a|an|another|one|more|new|no) )*(?:larger |smaller )?)"
    size, colour = rf"(?:(?P<size>{any_of(SIZES_BY_WORD)}) )?", rf"(?:(?P<colour>{any_of(COLOURS_BY_WORD)}) )?"
    noun = rf"(?P<noun>{any_of([*KINDS_BY_WORD, *ANY_NOUN])})\b"
    return re.compile(rf"(?<= ){article}{size}{colour}{noun}")


def _shapes_named(text: str) -> list[_Named]:
    return [_named(match) for match in _shape_pattern().finditer(text)]


def _named(match: re.Match[str]) -> _Named:
    wanted = Wanted(
        COLOURS_BY_WORD.get(match["colour"] or ""),
        KINDS_BY_WORD.get(match["noun"]),
        SIZES_BY_WORD.get(match["size"] or ""),
    )
    return _Named(match["article"].strip(), wanted, match.start(), match.end("noun"))


def _places(text: str) -> tuple[frozenset[int] | None, str]:
    """The cells of the last place that is named, and the text without any."""
    matches = list(_place_pattern().finditer(text))
    if not matches:
        return None, text
    name = matches[-1][2]
    cells = CORNERS if name == "corner" else frozenset(cell for cell in CELLS if name in place_words(cell))
    return cells, _place_pattern().sub(r"\1 ", text)
