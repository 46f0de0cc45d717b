"""Yes/no questions about a made scene: the action, what should be there, what should be gone, what should have stayed.

Every question is a claim about the end of the clip, so its answer is known. Each sample has 2 to 6, with at least one
expected yes and one expected no: a judge, or a video, that always says the same is right about neither half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from alignvid.bench.data.claims import Claim
from alignvid.bench.data.samples import Question
from alignvid.miniature.prompts import NOUNS
from alignvid.miniature.scenes import CELLS, PALETTE, Scene, Shape, Size, place_name

T = TypeVar("T")

MIN_QUESTIONS, MAX_QUESTIONS = 2, 6
_NUMBERS = ("no", "one", "two", "three", "four")
_COMPARATIVES: dict[Size, str] = {"small": "smaller", "large": "larger"}


@dataclass(frozen=True)
class Draft:
    """A question that could be asked of a scene."""

    category: str
    claim: Claim
    wordings: tuple[str, ...]


def questions_of(scene: Scene, seed: int) -> tuple[Question, ...]:
    """The questions of a scene; the first asks for the edit itself. The seed decides choice and wording."""
    rng = np.random.default_rng([seed, 1])
    drafts = _drafts(scene, rng)
    answers = {draft.claim: draft.claim.is_true_of(scene.edited_shapes) for draft in drafts}
    chosen = _choose(drafts, answers, rng)
    return tuple(
        Question(
            id=draft.claim.id,
            question=draft.wordings[int(rng.integers(len(draft.wordings)))],
            expected_answer="yes" if answers[draft.claim] else "no",
            category=draft.category,
        )
        for draft in chosen
    )


def _choose(drafts: list[Draft], answers: dict[Claim, bool], rng: np.random.Generator) -> list[Draft]:
    """The first draft, one with the other answer, and more up to a number that is drawn."""
    first, *others = drafts
    others = [others[index] for index in rng.permutation(len(others))]
    opposite = next(draft for draft in others if answers[draft.claim] != answers[first.claim])
    count = int(rng.integers(MIN_QUESTIONS, MAX_QUESTIONS + 1))
    chosen = [first, opposite]
    for draft in others:
        if len(chosen) < count and not any(draft.claim.is_about_the_same_as(other.claim) for other in chosen):
            chosen.append(draft)
    return chosen


def _drafts(scene: Scene, rng: np.random.Generator) -> list[Draft]:
    """Every question that the scene allows; the first one is about the edit."""
    old = None if scene.edit.target is None else scene.shapes[scene.edit.target]
    match scene.edit.kind, old, scene.edit.result:
        case "add", None, Shape() as new:
            special = _of_addition(scene, new, rng)
        case "delete", Shape() as gone, None:
            special = _of_deletion(gone, rng)
        case "recolour", Shape() as before, Shape() as new:
            special = _of_colour(scene, before, new, rng)
        case "move", Shape() as before, Shape() as new:
            special = _of_move(scene, before, new, rng)
        case _, Shape() as before, Shape() as new:
            special = _of_size(before, new, rng)
        case _:
            raise AssertionError(f"an edit of kind {scene.edit.kind} has a target or a result")
    rest = [shape for index, shape in enumerate(scene.shapes) if index != scene.edit.target]
    kept = [draft for shape in rest for draft in _of_kept_shape(shape, rng)]
    return [*special, *kept, *_of_counts(scene), *_of_stranger(scene, rng)]


def _of_addition(scene: Scene, new: Shape, rng: np.random.Generator) -> list[Draft]:
    name, place = _name(new, rng), place_name(new.cell)
    elsewhere = _pick(rng, [cell for cell in CELLS if cell not in {shape.cell for shape in scene.edited_shapes}])
    wrong = _pick(rng, [colour for colour in PALETTE if colour != new.colour])
    return [
        Draft(
            "action_correctness",
            Claim(colour=new.colour, kind=new.kind, cell=new.cell),
            (f"Does a {name} appear at the {place}?", f"Is a {name} added at the {place}?"),
        ),
        _presence(new, rng),
        Draft(
            "object_place",
            Claim(cell=new.cell),
            (f"Is there a shape at the {place} at the end?", f"Does the video end with something at the {place}?"),
        ),
        Draft(
            "object_place",
            Claim(colour=new.colour, kind=new.kind, cell=elsewhere),
            (f"Does a {name} appear at the {place_name(elsewhere)}?",),
        ),
        Draft(
            "object_colour",
            Claim(colour=new.colour, cell=new.cell),
            (f"Is the shape at the {place} {new.colour} at the end?",),
        ),
        Draft("object_colour", Claim(colour=wrong, cell=new.cell), (f"Does a {wrong} shape appear at the {place}?",)),
    ]


def _of_deletion(gone: Shape, rng: np.random.Generator) -> list[Draft]:
    name, place = _name(gone, rng), place_name(gone.cell)
    return [
        Draft(
            "action_correctness",
            Claim(quantity=0, colour=gone.colour, kind=gone.kind),
            (f"Does the {name} disappear?", f"Is the {name} gone at the end?", f"Is the {name} removed?"),
        ),
        Draft(
            "object_presence",
            Claim(colour=gone.colour),
            (f"Is there a {gone.colour} shape at the end of the video?", f"Can a {gone.colour} shape be seen at last?"),
        ),
        Draft(
            "object_place",
            Claim(quantity=0, cell=gone.cell),
            (f"Is the {place} empty at the end?", f"Is there nothing at the {place} in the last frames?"),
        ),
        Draft(
            "object_place",
            Claim(colour=gone.colour, kind=gone.kind, cell=gone.cell),
            (f"Is the {name} still at the {place} at the end?",),
        ),
    ]


def _of_colour(scene: Scene, before: Shape, new: Shape, rng: np.random.Generator) -> list[Draft]:
    name, noun, place = _name(before, rng), _noun(before, rng), place_name(before.cell)
    used = {shape.colour for shape in (*scene.shapes, new)}
    wrong = _pick(rng, [colour for colour in PALETTE if colour not in used])
    return [
        Draft(
            "action_correctness",
            Claim(colour=new.colour, kind=new.kind, cell=new.cell),
            (f"Does the {name} turn {new.colour}?", f"Does the {name} become {new.colour}?"),
        ),
        _presence(new, rng),
        Draft(
            "object_colour",
            Claim(colour=before.colour, cell=before.cell),
            (f"Is the {noun} at the {place} still {before.colour} at the end?",),
        ),
        Draft(
            "object_colour",
            Claim(colour=wrong, kind=new.kind, cell=new.cell),
            (f"Does the {name} turn {wrong}?", f"Does the colour of the {name} change to {wrong}?"),
        ),
        Draft(
            "preservation",
            Claim(kind=new.kind, cell=new.cell),
            (f"Is there still a {noun} at the {place} at the end?",),
        ),
    ]


def _of_move(scene: Scene, before: Shape, new: Shape, rng: np.random.Generator) -> list[Draft]:
    name, start, end = _name(before, rng), place_name(before.cell), place_name(new.cell)
    used = {shape.cell for shape in (*scene.shapes, new)}
    wrong = place_name(cell := _pick(rng, [cell for cell in CELLS if cell not in used]))
    return [
        Draft(
            "action_correctness",
            Claim(colour=new.colour, kind=new.kind, cell=new.cell),
            (f"Does the {name} move to the {end}?", f"Does the {name} end up at the {end}?"),
        ),
        Draft(
            "object_place",
            Claim(colour=before.colour, kind=before.kind, cell=before.cell),
            (f"Is the {name} still at the {start} at the end?", f"Does the {name} stay at the {start}?"),
        ),
        Draft("object_place", Claim(quantity=0, cell=before.cell), (f"Is the {start} empty at the end?",)),
        Draft(
            "object_place",
            Claim(colour=new.colour, kind=new.kind, cell=cell),
            (f"Does the {name} move to the {wrong}?",),
        ),
        _presence(new, rng),
    ]


def _of_size(before: Shape, new: Shape, rng: np.random.Generator) -> list[Draft]:
    name, place = _name(before, rng), place_name(before.cell)
    more = _COMPARATIVES[new.size]
    return [
        Draft(
            "action_correctness",
            Claim(colour=new.colour, kind=new.kind, size=new.size, cell=new.cell),
            (f"Does the {name} get {more}?", f"Does the {name} become {more}?"),
        ),
        Draft(
            "object_size",
            Claim(colour=before.colour, kind=before.kind, size=before.size),
            (f"Is the {name} {before.size} at the end?", f"Is the {name} still {before.size} in the last frames?"),
        ),
        Draft(
            "object_size",
            Claim(size=new.size, cell=new.cell),
            (f"Is the shape at the {place} {new.size} at the end?",),
        ),
        _presence(new, rng),
        Draft(
            "preservation",
            Claim(colour=before.colour, kind=before.kind, cell=before.cell),
            (f"Is the {name} still at the {place} at the end?",),
        ),
    ]


def _of_kept_shape(shape: Shape, rng: np.random.Generator) -> list[Draft]:
    name, place = _name(shape, rng), place_name(shape.cell)
    return [
        Draft(
            "preservation",
            Claim(colour=shape.colour, kind=shape.kind, cell=shape.cell),
            (f"Is the {name} still at the {place} at the end?", f"Does the {name} stay at the {place}?"),
        ),
        Draft(
            "preservation",
            Claim(quantity=0, colour=shape.colour, kind=shape.kind),
            (f"Does the {name} disappear?", f"Is the {name} gone at the end?"),
        ),
        Draft(
            "preservation",
            Claim(colour=shape.colour, kind=shape.kind, size=shape.size),
            (f"Is the {name} still {shape.size} at the end?", f"Does the {name} stay {shape.size}?"),
        ),
    ]


def _of_counts(scene: Scene) -> list[Draft]:
    """How many shapes there are, before or after; where the edit changes nothing of it, one too many."""
    after = len(scene.edited_shapes)
    counts = {after, len(scene.shapes)} if len(scene.shapes) != after else {after, after + 1}
    return [
        Draft("object_count", Claim(quantity=count), (_how_many(count), f"Does the video end with {_so_many(count)}?"))
        for count in sorted(counts)
    ]


def _how_many(count: int) -> str:
    if count == 0:
        return "Is the picture without any shape at the end?"
    return f"{'Is' if count == 1 else 'Are'} there exactly {_so_many(count)} at the end?"


def _so_many(count: int) -> str:
    return f"{_NUMBERS[count]} shape{'' if count == 1 else 's'}"


def _of_stranger(scene: Scene, rng: np.random.Generator) -> list[Draft]:
    """A shape that nobody asked for."""
    used = {shape.colour for shape in (*scene.shapes, *scene.edited_shapes)}
    colour = _pick(rng, [colour for colour in PALETTE if colour not in used])
    stranger = Shape("circle" if rng.random() < 0.5 else "square", colour, 0, "large")
    return [_presence(stranger, rng)]


def _presence(shape: Shape, rng: np.random.Generator) -> Draft:
    name = _name(shape, rng)
    wordings = (
        f"Is there a {name} at the end of the video?",
        f"Does the video end with a {name} in the picture?",
        f"Can a {name} be seen in the last frames?",
    )
    return Draft("object_presence", Claim(colour=shape.colour, kind=shape.kind), wordings)


def _name(shape: Shape, rng: np.random.Generator) -> str:
    return f"{shape.colour} {_noun(shape, rng)}"


def _noun(shape: Shape, rng: np.random.Generator) -> str:
    return NOUNS[shape.kind][int(rng.integers(len(NOUNS[shape.kind])))]


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
