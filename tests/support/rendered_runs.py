"""A finished run of OmitShapes, made of rendered scenes instead of generated ones, so that every answer is known."""

from __future__ import annotations

from pathlib import Path

from alignvid.bench.data.omitshapes import sample_of, scene_of
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import RunFolder, RunInfo
from alignvid.files import sha256_of_bytes
from alignvid.media.videos import encode_video
from alignvid.miniature.drawing import render
from alignvid.miniature.scenes import DEVELOPMENT, EDIT_KINDS

VARIANTS = ("baseline", "alignvid")
"""The baseline never shows the edit, the other one always does."""


def rendered_run(folder: Path, *, samples: int = 3) -> RunFolder:
    """A run with one seed and a video for every job."""
    cases = [sample_of(DEVELOPMENT[index], EDIT_KINDS[index % len(EDIT_KINDS)]) for index in range(samples)]
    folder.mkdir()
    run = RunFolder(folder)
    run.write_plan(_info(), cases)
    for sample in cases:
        for variant in VARIANTS:
            video = encode_video(render(scene_of(sample.id), shown=variant == "alignvid"), 8.0)
            job = sha256_of_bytes(f"{sample.id} {variant}".encode())[:16]
            run.write_video(
                VideoRecord(
                    job=job,
                    sample=sample.id,
                    variant=variant,
                    seed=0,
                    status="done",
                    file=f"videos/{job}.mp4",
                    sha256=sha256_of_bytes(video),
                    frames=9,
                    width=80,
                    height=80,
                    fps=8.0,
                ),
                video,
            )
    return run


def _info() -> RunInfo:
    return RunInfo(
        data={"name": "omitshapes", "unusable": []},
        model={"name": "rendered"},
        variants=[{"name": name, "recipe": None, "settings": {}} for name in VARIANTS],
        seeds=[0],
        settings={},
        versions={},
        machine={},
        created="2026-11-24T00:00:00+00:00",
    )
