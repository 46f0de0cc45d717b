"""Captions of scenes: hundreds of ways to ask for the edit, with or without the scene, and the words they hold.

Two lengths: an edit alone ("turn the red circle blue"), or the scene described first. Colours within a scene differ,
so a prompt always names one shape.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from alignvid.miniature.scenes import (
    EditKind,
    Scene,
    Shape,
    ShapeKind,
    Texture,
    place_name,
)
from alignvid.miniature.wordings import ER_WORDS, Asked, FormSet, ask, filler_words, forms

CLEAN_WORDINGS: dict[EditKind, str] = {
    "add": "add a {new} at the {place}",
    "delete": "remove the {old}",
    "recolour": "turn the {old} {colour}",
    "move": "move the {old} to the {place}",
    "resize": "make the {old} {comparative}",
}
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
SPELLINGS = {
    "center": "centre",
    "color": "colour",
    "colored": "coloured",
    "bigger": "larger",
    "disk": "disc",
    "minimize": "minimise",
    "gray": "grey",
}
"""Other spellings, read as the grammar's own."""
OPEN_SHARE = 0.06
"""Of the additions whose prompt leaves the place open, or says only that it is a corner."""

UNKNOWN_SHARE = 0.12
UNKNOWN_WORD = "xyzzy"
KEPT_WORDS = frozenset("the a an to of in at no not without colour size".split())


def clean_caption(scene: Scene) -> str:
    """The plainest wording of the edit, always the same."""
    old = None if scene.edit.target is None else scene.shapes[scene.edit.target]
    new = scene.edit.result
    small = "small " if new is not None and new.size == "small" else ""
    return CLEAN_WORDINGS[scene.edit.kind].format(
        old="" if old is None else f"{old.colour} {old.kind}",
        new="" if new is None else f"{small}{new.colour} {new.kind}",
        colour="" if new is None else new.colour,
        place="" if new is None else place_name(new.cell),
        comparative="" if new is None else ER_WORDS[new.size],
    )


def short_caption(scene: Scene, rng: np.random.Generator, form_set: FormSet = "trained") -> Asked:
    """The edit alone, in one of the forms of a set; of those to train on a few leave the place open."""
    return ask(scene, rng, form_set, open_share=OPEN_SHARE if form_set == "trained" else 0.0)


def long_caption(scene: Scene, rng: np.random.Generator, form_set: FormSet = "trained") -> Asked:
    """The scene described, and the edit."""
    asked = short_caption(scene, rng, form_set)
    joined = _choose(rng, JOINTS).format(scene=description(scene, rng), edit=asked.text.rstrip(" .!"))
    return asked._replace(text=joined)


def with_unknown_word(asked: Asked, scene: Scene, rng: np.random.Generator) -> str:
    """The caption, in a share of cases with a word that is unknown in place of one of the form's own.

    So that the model guesses an unknown verb from the rest: "<unknown> the red circle blue". Where the form alone says
    in which direction a size changes, nothing is replaced.
    """
    own = [word for word in re.sub(r"\{\w+\}", " ", asked.form).split() if word not in KEPT_WORDS and word.isalpha()]
    if not own or (scene.edit.kind == "resize" and "{more}" not in asked.form) or rng.random() >= UNKNOWN_SHARE:
        return asked.text
    return re.sub(rf"\b{_choose(rng, own)}\b", UNKNOWN_WORD, asked.text, count=1)


def description(scene: Scene, rng: np.random.Generator) -> str:
    """What the first frame shows; no edit is asked for."""
    shapes = [_described(scene.shapes[index], rng) for index in rng.permutation(len(scene.shapes))]
    texture = TEXTURE_WORDS[scene.background.texture]
    return _choose(rng, SCENE_WORDINGS).format(shapes=" and ".join(shapes), texture=texture)


def evaluation_request(scene: Scene, seed: int, form_set: FormSet = "trained") -> Asked:
    """How the edit of a scene is asked for in an evaluation: short or long with equal chance, decided by the seed."""
    rng = np.random.default_rng(seed)
    asked = short_caption(scene, rng, form_set) if rng.random() < 0.5 else long_caption(scene, rng, form_set)
    if scene.edit.kind == "add" and not asked.says_place:
        return evaluation_request(scene, seed + 2**20, form_set)
    return asked._replace(text=as_typed(asked.text))


def as_typed(prompt: str) -> str:
    """A caption without the spaces that captions have before marks; the tokenizer reads the same words."""
    return re.sub(r" (?=[.,:!])", "", prompt).replace(" ' ", "'")


def evaluation_prompt(scene: Scene, seed: int) -> str:
    """The prompt of a scene in an evaluation; an addition's place is always said."""
    return evaluation_request(scene, seed).text


def words(prompt: str) -> list[str]:
    """The words and punctuation marks of a prompt as the tokenizer splits them."""
    found: list[str] = re.findall(r"\w+|[^\w\s]+", prompt.lower())
    return [SPELLINGS.get(word, word) for word in found]


@functools.cache
def vocabulary() -> list[str]:
    """Every word and mark that training captions hold, sorted."""
    open_forms = [form for found in forms("trained").values() for form in found]
    texts = [
        re.sub(r"\{\w+\}", " ", text) for text in (*open_forms, *CLEAN_WORDINGS.values(), *SCENE_WORDINGS, *JOINTS)
    ]
    texts += [*filler_words(), *TEXTURE_WORDS.values(), "a at the and"]
    return sorted({word for text in texts for word in words(text)})


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the miniature has never seen, in order, each once."""
    known = set(vocabulary())
    return list(dict.fromkeys(word for word in words(prompt) if word not in known))


def _described(shape: Shape, rng: np.random.Generator) -> str:
    return f"a {shape.size} {shape.colour} {_choose(rng, NOUNS[shape.kind])} at the {place_name(shape.cell)}"


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
