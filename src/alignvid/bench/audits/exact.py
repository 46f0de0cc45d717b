"""Audit a judge without people or a model: clips whose truth is known, rendered from OmitShapes.

Each scene gives four clips: its edit shown, not shown, shown elsewhere, and half shown. Each clip is asked whether the
edit's outcome is there, once as a claim and once as its denial, so that a judge that says yes to everything is right
about half of the questions of each clip, and one that fears denials shows it. Half an edit has no truth: of it only the
share of yes is reported.

The clips are a run like any other, so that any judge answers them and a stopped audit is resumed. Flat shapes are no
photographs: the rates say what a judge does here, and are printed beside, not put into, scores of other data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from alignvid.bench.data.claims import Claim
from alignvid.bench.data.omitshapes import sample_of, scene_of
from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import VIDEOS, RunFolder, RunInfo
from alignvid.errors import InputError
from alignvid.files import sha256_of_bytes
from alignvid.generate.record import machine_facts, now, package_versions
from alignvid.media.videos import encode_video
from alignvid.miniature.drawing import Video, render
from alignvid.miniature.prompts import NOUNS
from alignvid.miniature.scenes import CELLS, HELD_OUT, PALETTE, Edit, Scene, Shape, evaluation_scenes, place_name

Showing = Literal["shown", "not shown", "elsewhere", "half shown"]
SHOWINGS: tuple[Showing, ...] = ("shown", "not shown", "elsewhere", "half shown")
HALF: Showing = "half shown"
DATA = "omitshapes rendered"
"""Name of the data in the run's folder, by which it is recognised."""
_FPS = 8.0


@dataclass(frozen=True)
class ExactSample:
    """A scene with its two questions."""

    sample: Sample
    scene: Scene
    claim: Claim
    """What the edit brings about; for a deletion, what it takes away."""

    def clip(self, showing: Showing) -> Video:
        """The clip of one of the four showings."""
        match showing:
            case "shown" | "not shown":
                return render(self.scene, shown=showing == "shown")
            case "half shown":
                return render(self.scene, until=0.5)
            case "elsewhere":
                return render(elsewhere(self.scene))

    def truth(self, showing: Showing, question: Question) -> bool | None:
        """The right answer to one of the questions about the end of a clip; None where there is none."""
        shapes: Mapping[str, tuple[Shape, ...]] = {
            "shown": self.scene.edited_shapes,
            "not shown": self.scene.shapes,
            "elsewhere": elsewhere(self.scene).edited_shapes,
        }
        return None if showing == HALF else Claim.parse(question.id).is_true_of(shapes[showing])


def exact_samples(count: int) -> list[ExactSample]:
    """The first scenes of OmitShapes."""
    made = []
    for index, scene in enumerate(evaluation_scenes(HELD_OUT, count)):
        sample = sample_of(HELD_OUT[index], scene.edit.kind)
        claim = _claim(scene)
        made.append(ExactSample(replace(sample, questions=_questions(claim)), scene_of(sample.id), claim))
    return made


def elsewhere(scene: Scene) -> Scene:
    """The scene with an edit that is not the one asked for: its outcome at another place, or done to nothing asked."""
    edit, taken = scene.edit, {shape.cell for shape in (*scene.shapes, scene.edit.result) if shape is not None}
    free = [cell for cell in CELLS if cell not in taken]
    if edit.kind in ("add", "move") and edit.result is not None:
        return replace(scene, edit=replace(edit, result=replace(edit.result, cell=free[0])))
    used = {shape.colour for shape in (*scene.shapes, edit.result) if shape is not None}
    stranger = Shape("square", next(colour for colour in PALETTE if colour not in used), free[0], "large")
    return replace(scene, edit=Edit("add", None, stranger))


def write_clips(folder: RunFolder, samples: list[ExactSample]) -> None:
    """Write the clips as a run with one variant for each showing; what is there already is left.

    Raises: InputError if the folder holds another run.
    """
    if folder.exists() and folder.info().data["name"] != DATA:
        raise InputError(
            f"{str(folder.path)!r} holds a run of {folder.info().data['name']!r}; give a new folder for --exact, whose "
            "clips are rendered into it."
        )
    planned = [item.sample for item in samples]
    if not folder.exists() or folder.samples() != planned:
        folder.write_plan(_info(), planned)
    known = {record.job: record for record in folder.videos()} if (folder.path / VIDEOS).is_dir() else {}
    for item in samples:
        for showing in SHOWINGS:
            job = sha256_of_bytes(f"{item.sample.id} {showing}".encode())[:20]
            if job not in known or not folder.is_whole(known[job]):
                _write_clip(folder, job, item, showing)


def _write_clip(folder: RunFolder, job: str, item: ExactSample, showing: Showing) -> None:
    clip = item.clip(showing)
    video = encode_video(clip, _FPS)
    frames, height, width, _ = clip.shape
    record = VideoRecord(
        job=job,
        sample=item.sample.id,
        variant=showing,
        seed=0,
        status="done",
        file=f"{VIDEOS}/{job}.mp4",
        sha256=sha256_of_bytes(video),
        frames_sha256=sha256_of_bytes(np.ascontiguousarray(clip).tobytes()),
        frames=frames,
        width=width,
        height=height,
        fps=_FPS,
    )
    folder.write_video(record, video)


def _claim(scene: Scene) -> Claim:
    """Where the edit's outcome is to be seen: the new shape, or the place of the one that goes."""
    shape = scene.edit.result
    if shape is None:
        gone = scene.shapes[scene.edit.target or 0]
        return Claim(colour=gone.colour, kind=gone.kind, cell=gone.cell)
    size = shape.size if scene.edit.kind == "resize" else None
    return Claim(colour=shape.colour, kind=shape.kind, size=size, cell=shape.cell)


def _questions(claim: Claim) -> tuple[Question, Question]:
    """The claim and its denial."""
    size = f"{claim.size} " if claim.size else ""
    noun = NOUNS[claim.kind][0] if claim.kind else "shape"
    what = f"{size}{claim.colour} {noun} at the {place_name(claim.cell or 0)}"
    denial = replace(claim, quantity=0)
    return (
        Question(
            id=claim.id, question=f"Is there a {what} at the end of the video?", expected_answer="yes", category="claim"
        ),
        Question(
            id=denial.id,
            question=f"Is there no {what} at the end of the video?",
            expected_answer="no",
            category="denial",
        ),
    )


def _info() -> RunInfo:
    return RunInfo(
        data={"name": DATA, "unusable": []},
        model={"name": "rendered"},
        variants=[{"name": name, "recipe": None, "settings": {}} for name in SHOWINGS],
        seeds=[0],
        settings={},
        versions=package_versions(),
        machine=machine_facts(),
        created=now(),
    )
