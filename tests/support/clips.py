"""Rendered clips whose verdict is known by construction: the edit shown, not shown, or something else instead."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import NamedTuple

import av
import numpy as np

from alignvid.miniature.drawing import Video, render
from alignvid.miniature.scenes import CELLS, EDIT_KINDS, PALETTE, SHAPE_KINDS, Edit, Scene, sample_scene


class KnownClip(NamedTuple):
    """A clip and what a perfect judge would say of it."""

    case: str
    scene: Scene
    video: Video
    edit_shown: bool
    rest_untouched: bool


def known_clip(seed: int) -> KnownClip:
    """One of the cases that the scene of this seed allows, in turn."""
    scene, rng = sample_scene(seed), np.random.default_rng(seed)
    makers = [_shown, _not_shown, _wrong_colour, _wrong_kind, _wrong_place, _wrong_object]
    clips = [clip for maker in makers if (clip := maker(scene, rng)) is not None]
    return clips[seed % len(clips)]


def through_h264(video: Video) -> Video:
    """The clip after H.264 as alignvid writes it: yuv420p, crf 18."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _shown(scene: Scene, rng: np.random.Generator) -> KnownClip:
    return KnownClip("shown", scene, render(scene), True, True)


def _not_shown(scene: Scene, rng: np.random.Generator) -> KnownClip:
    return KnownClip("not shown", scene, render(scene, shown=False), False, True)


def _wrong_colour(scene: Scene, rng: np.random.Generator) -> KnownClip | None:
    if scene.edit.kind not in ("add", "recolour"):
        return None
    used = {shape.colour for shape in (*scene.shapes, scene.edit.result)}
    colour = str(rng.choice([name for name in PALETTE if name not in used]))
    return _instead("wrong colour", scene, replace(scene.edit, result=replace(scene.edit.result, colour=colour)), True)


def _wrong_kind(scene: Scene, rng: np.random.Generator) -> KnownClip | None:
    if scene.edit.kind != "add":
        return None
    kind = str(rng.choice([name for name in SHAPE_KINDS if name != scene.edit.result.kind]))
    return _instead("wrong kind", scene, replace(scene.edit, result=replace(scene.edit.result, kind=kind)), True)


def _wrong_place(scene: Scene, rng: np.random.Generator) -> KnownClip | None:
    if scene.edit.kind not in ("add", "move"):
        return None
    used = {shape.cell for shape in (*scene.shapes, scene.edit.result)}
    cell = int(rng.choice([cell for cell in CELLS if cell not in used]))
    return _instead("wrong place", scene, replace(scene.edit, result=replace(scene.edit.result, cell=cell)), False)


def _wrong_object(scene: Scene, rng: np.random.Generator) -> KnownClip | None:
    """Another shape is deleted, recoloured or resized in place of the promised edit."""
    others = [index for index in range(len(scene.shapes)) if index != scene.edit.target]
    if not others:
        return None
    index = int(rng.choice(others))
    shape, free = scene.shapes[index], [name for name in PALETTE if name not in {s.colour for s in scene.shapes}]
    results = [
        None,
        replace(shape, colour=str(rng.choice(free))),
        replace(shape, size="small" if shape.size == "large" else "large"),
    ]
    result = results[int(rng.integers(3))]
    return _instead("wrong object", scene, Edit(EDIT_KINDS[1] if result is None else "recolour", index, result), False)


def _instead(case: str, scene: Scene, edit: Edit, rest_untouched: bool) -> KnownClip:
    return KnownClip(case, scene, render(replace(scene, edit=edit)), False, rest_untouched)
