"""OmitShapes: 367 scenes that the miniature never saw, with OmitI2V's shares of additions, deletions and modifications.

Made by the miniature's grammar from held-out seeds, so every answer is known by rule. A sample's id names its scene.
"""

from __future__ import annotations

import io
import re
from functools import cache

import numpy as np
from PIL import Image

from alignvid.bench.data.claims import Claim
from alignvid.bench.data.dataset import OMITSHAPES, DataSet, ImageFile
from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.data.shape_questions import questions_of
from alignvid.errors import InputError
from alignvid.miniature.drawing import HEIGHT, WIDTH, first_frame
from alignvid.miniature.prompts import clean_caption, evaluation_prompt
from alignvid.miniature.scenes import EDIT_KINDS, HELD_OUT, EditKind, Scene, evaluation_scenes, sample_scene

SAMPLE_COUNT = 367
MAIN_CATEGORY: dict[EditKind, str] = {
    "add": "addition",
    "delete": "deletion",
    "recolour": "modification",
    "move": "modification",
    "resize": "modification",
}
_ID = re.compile(r"scene-(\d{1,9})-([a-z]+)")
_DOMAINS = ("one shape", "two shapes", "three shapes")


@cache
def omitshapes() -> DataSet:
    """The data set; it is made, not read, and once in a process."""
    scenes = evaluation_scenes(HELD_OUT, SAMPLE_COUNT)
    samples = tuple(sample_of(HELD_OUT[index], scene.edit.kind) for index, scene in enumerate(scenes))
    return DataSet(OMITSHAPES, samples, image_of, images_are_made=True)


def sample_of(seed: int, kind: EditKind) -> Sample:
    """The sample of the scene that a seed and a kind of edit make."""
    scene = sample_scene(seed, edit_kind=kind)
    name = f"scene-{seed}-{kind}"
    return Sample(
        id=name,
        image_path=f"{name}.png",
        prompt=evaluation_prompt(scene, seed),
        main_category=MAIN_CATEGORY[kind],
        sub_category=kind,
        domain=_DOMAINS[len(scene.shapes) - 1],
        expected_change=clean_caption(scene),
        resolution=(WIDTH, HEIGHT),
        questions=questions_of(scene, seed),
    )


def scene_of(sample_id: str) -> Scene:
    """The scene of a sample, by its id.

    Raises: InputError if the id is not one of OmitShapes.
    """
    match = _ID.fullmatch(sample_id)
    kinds: dict[str, EditKind] = {kind: kind for kind in EDIT_KINDS}
    kind = kinds.get(match[2]) if match else None
    if match is None or kind is None:
        raise InputError(f"{sample_id!r} is no sample of OmitShapes; its ids look like 'scene-2000123-add'.")
    return sample_scene(int(match[1]), edit_kind=kind)


def claim_of(question: Question) -> Claim:
    """What a question of OmitShapes asks, as a claim that a rule can check."""
    return Claim.parse(question.id)


def image_of(sample: Sample) -> ImageFile:
    """The first frame of a sample's scene, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(first_frame(scene_of(sample.id)))).save(buffer, format="PNG")
    return ImageFile(".png", buffer.getvalue())
