"""The reader of prompts: right on every form, on described scenes, and on prompts as people type them."""

from __future__ import annotations

import numpy as np
import pytest

from alignvid.errors import InputError
from alignvid.miniature.prompts import evaluation_request
from alignvid.miniature.requests import CORNERS, Request, Wanted, read_request, request_of
from alignvid.miniature.scenes import EDIT_KINDS, EditKind, Scene, Shape, sample_scene
from alignvid.miniature.wordings import FORM_SETS, FormSet, ask_as, forms

PLACED = frozenset({0})


def scene_for(form: str, kind: EditKind, seed: int) -> Scene:
    """A scene whose edit the form can ask for."""
    wanted = "large" if "{Larger}" in form else "small" if "{Smaller}" in form else None
    scenes = (sample_scene(each, edit_kind=kind) for each in range(seed, seed + 50))
    return next(s for s in scenes if wanted is None or (s.edit.result is not None and s.edit.result.size == wanted))


def is_read(text: str, scene: Scene, *, says_size: bool, says_place: bool) -> bool:
    request = read_request(text)
    true = request_of(scene, says_size=says_size, says_place=says_place)
    target = None if scene.edit.target is None else scene.shapes[scene.edit.target]
    asked_of = (request.kind, request.target_among(scene.shapes), request.outcome)
    corner_or_true = true.outcome if request.outcome.cells != CORNERS else request.outcome
    return asked_of == (true.kind, target, corner_or_true)


@pytest.mark.parametrize("form_set", FORM_SETS)
def test_every_form_is_read(form_set: FormSet) -> None:
    wrong = []
    for kind in EDIT_KINDS:
        for number, form in enumerate(forms(form_set)[kind]):
            scene, rng = scene_for(form, kind, 100 * number), np.random.default_rng(number)
            asked = ask_as(scene, form, rng, open_share=0.2)
            if not is_read(asked.text, scene, says_size=asked.says_size, says_place=asked.says_place):
                wrong.append(asked.text)
    assert not wrong


def test_prompts_that_describe_the_scene_are_read() -> None:
    scenes = [sample_scene(seed) for seed in range(300)]
    asked = [evaluation_request(scene, seed) for seed, scene in enumerate(scenes)]
    wrong = [
        each.text
        for each, scene in zip(asked, scenes, strict=True)
        if not is_read(each.text, scene, says_size=each.says_size, says_place=each.says_place)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("prompt", "request_"),
    [
        ("Make the square blue!", Request("recolour", Wanted(kind="square"), Wanted("blue"))),
        ("erase it all", None),
        ("get rid of the small box", Request("delete", Wanted(kind="square", size="small"), Wanted())),
        ("I want a red circle in the corner", Request("add", Wanted(), Wanted("red", "circle", cells=CORNERS))),
        ("a tiny red ball, please", Request("add", Wanted(), Wanted("red", "circle", "small"))),
        ("Put a red disc at the top left.", Request("add", Wanted(), Wanted("red", "circle", cells=PLACED))),
        ("Put the red disc at the top left.", Request("move", Wanted("red", "circle"), Wanted(cells=PLACED))),
        ("the red circle grows", Request("resize", Wanted("red", "circle"), Wanted(size="large"))),
        ("the shape at the top left should go", Request("delete", Wanted(cells=PLACED), Wanted())),
        ("the red shape should go to the top left", Request("move", Wanted("red"), Wanted(cells=PLACED))),
        ("the red circle is nice", None),
    ],
)
def test_typed_prompts_are_read_or_refused(prompt: str, request_: Request | None) -> None:
    if request_ is None:
        with pytest.raises(InputError, match="No edit could be read"):
            read_request(prompt)
    else:
        assert read_request(prompt) == request_


def test_a_name_that_fits_two_shapes_is_refused() -> None:
    request = read_request("remove the circle")
    two = [Shape("circle", "red", 0, "large"), Shape("circle", "blue", 1, "small")]
    with pytest.raises(InputError, match="fits 2 of those in the picture"):
        request.target_among(two)
    assert request.target_among(two[:1]) == two[0]
