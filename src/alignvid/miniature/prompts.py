"""Captions of scenes: a small grammar with several wordings of each edit, and the words it knows.

Two lengths: an edit alone ("turn the red circle blue"), or the scene described first. Colours within a scene differ,
so a prompt always names one shape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from alignvid.miniature.scenes import (
    PALETTE,
    PLACES,
    SHAPE_KINDS,
    SIZES,
    EditKind,
    Scene,
    Shape,
    ShapeKind,
    Texture,
    place_name,
)

EDIT_WORDINGS: dict[EditKind, tuple[str, ...]] = {
    "add": (
        "add a {new} at the {place}",
        "a {new} appears at the {place}",
        "put a {new} at the {place}",
        "a new {new} grows at the {place}",
        "at the {place} a {new} appears",
    ),
    "delete": (
        "remove the {old}",
        "delete the {old}",
        "the {old} disappears",
        "the {old} fades away",
        "take away the {old}",
    ),
    "recolour": (
        "turn the {old} {colour}",
        "the {old} turns {colour}",
        "the {old} becomes {colour}",
        "paint the {old} {colour}",
        "change the colour of the {old} to {colour}",
    ),
    "move": (
        "move the {old} to the {place}",
        "the {old} moves to the {place}",
        "slide the {old} to the {place}",
        "the {old} slides to the {place}",
        "bring the {old} over to the {place}",
    ),
    "resize": (
        "make the {old} {comparative}",
        "the {old} gets {comparative}",
        "the {old} becomes {comparative}",
        "{resize} the {old}",
        "change the size of the {old} , make it {comparative}",
    ),
}
COMPARATIVES = {"small": ("smaller", "shrink"), "large": ("larger", "enlarge")}
NOUNS: dict[ShapeKind, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
}
TEXTURE_WORDS: dict[Texture, str] = {
    "plain": "plain",
    "gradient": "shaded",
    "stripes": "striped",
    "checks": "checked",
    "speckle": "speckled",
}
SCENE_WORDINGS = (
    "{shapes} on a {texture} background",
    "a {texture} background with {shapes}",
    "there is {shapes} on a {texture} background",
    "the picture shows {shapes} , the background is {texture}",
)
JOINTS = ("{scene} . {edit}", "{scene} , then {edit}", "{scene} . now {edit}", "{edit} . {scene}")
CANONICAL = 0
"""Index of the wording that `clean_caption` uses."""
SPELLINGS = {"center": "centre", "color": "colour", "bigger": "larger"}
"""Other spellings, read as the grammar's own."""


def clean_caption(scene: Scene) -> str:
    """The plainest wording of the edit, always the same."""
    return _edit_phrase(scene, EDIT_WORDINGS[scene.edit.kind][CANONICAL], NOUNS_FIRST)


def short_caption(scene: Scene, rng: np.random.Generator) -> str:
    """The edit alone, in one of its wordings."""
    nouns: dict[ShapeKind, str] = {kind: _choose(rng, words) for kind, words in NOUNS.items()}
    return _edit_phrase(scene, _choose(rng, EDIT_WORDINGS[scene.edit.kind]), nouns)


def long_caption(scene: Scene, rng: np.random.Generator) -> str:
    """The scene described, and the edit."""
    return _choose(rng, JOINTS).format(scene=description(scene, rng), edit=short_caption(scene, rng))


def description(scene: Scene, rng: np.random.Generator) -> str:
    """What the first frame shows; no edit is asked for."""
    shapes = [_described(scene.shapes[index], rng) for index in rng.permutation(len(scene.shapes))]
    texture = TEXTURE_WORDS[scene.background.texture]
    return _choose(rng, SCENE_WORDINGS).format(shapes=" and ".join(shapes), texture=texture)


def evaluation_prompt(scene: Scene, seed: int) -> str:
    """The prompt of a scene in an evaluation: short or long with equal chance, decided by the seed."""
    rng = np.random.default_rng(seed)
    return short_caption(scene, rng) if rng.random() < 0.5 else long_caption(scene, rng)


def words(prompt: str) -> list[str]:
    """The words and punctuation marks of a prompt as the tokenizer splits them."""
    found: list[str] = re.findall(r"\w+|[^\w\s]+", prompt.lower())
    return [SPELLINGS.get(word, word) for word in found]


def vocabulary() -> list[str]:
    """Every word and mark that the grammar can produce, sorted."""
    templates = [*SCENE_WORDINGS, *JOINTS, "a at the and"]
    templates += [wording for wordings in EDIT_WORDINGS.values() for wording in wordings]
    fillers = [word for group in (*COMPARATIVES.values(), *NOUNS.values(), *PLACES) for word in group]
    fillers += [*PALETTE, *SIZES, *TEXTURE_WORDS.values()]
    return sorted({word for text in (*templates, *fillers) for word in words(re.sub(r"\{\w+\}", " ", text))})


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the miniature has never seen, in order, each once."""
    known = set(vocabulary())
    return list(dict.fromkeys(word for word in words(prompt) if word not in known))


NOUNS_FIRST: dict[ShapeKind, str] = {kind: NOUNS[kind][0] for kind in SHAPE_KINDS}


def _edit_phrase(scene: Scene, wording: str, nouns: dict[ShapeKind, str]) -> str:
    old = None if scene.edit.target is None else scene.shapes[scene.edit.target]
    new = scene.edit.result
    return wording.format(
        old="" if old is None else f"{old.colour} {nouns[old.kind]}",
        new="" if new is None else f"{new.colour} {nouns[new.kind]}",
        colour="" if new is None else new.colour,
        place="" if new is None else place_name(new.cell),
        comparative="" if new is None else COMPARATIVES[new.size][0],
        resize="" if new is None else COMPARATIVES[new.size][1],
    )


def _described(shape: Shape, rng: np.random.Generator) -> str:
    return f"a {shape.size} {shape.colour} {_choose(rng, NOUNS[shape.kind])} at the {place_name(shape.cell)}"


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
