"""What the gallery of a benchmark's report shows, as data for its script."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.records import AnswerRecord, VideoRecord
from alignvid.bench.run_folder import IMAGES, VIDEOS
from alignvid.bench.scoring.judged_run import Cell, JudgedRun
from alignvid.bench.scoring.outcomes import outcome
from alignvid.report.page import PIXEL_ART_BELOW


def gallery_script(run: JudgedRun, damaged: Set[str] = frozenset()) -> bytes:
    """A script that sets GALLERY; a page opened from a file may load scripts beside it, but no JSON.

    Args:
        run: What is shown.
        damaged: Jobs whose file is not the video on record.
    """
    data = {
        "variants": list(run.variants),
        "seeds": run.seeds,
        "pixel_art_below": PIXEL_ART_BELOW,
        "samples": [_sample(run, sample, damaged) for sample in run.samples],
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"const GALLERY = {text};\n".encode()


def image_file(sample: Sample) -> str | None:
    """The reference image's path in the report; the suffix as it was. None for a prompt alone."""
    if sample.image_path is None:
        return None
    suffix = sample.image_path.rpartition(".")[2].lower()
    return f"{IMAGES}/{sample.id}.{suffix if suffix.isalnum() else 'png'}"


def video_file(video: VideoRecord) -> str:
    """The video's, or the picture's, path in the report."""
    return f"{VIDEOS}/{video.job}{PurePosixPath(video.file or '.mp4').suffix}"


def _sample(run: JudgedRun, sample: Sample, damaged: Set[str]) -> dict[str, Any]:
    videos = [[run.videos.get(Cell(sample.id, variant, seed)) for seed in run.seeds] for variant in run.variants]
    width, height = sample.resolution or (1, 1)
    names = ("id", "prompt", "main_category", "sub_category", "domain", "expected_change")
    return {
        **{name: getattr(sample, name) for name in names},
        "image": None if (image := image_file(sample)) is None else quote(image),
        "width": width,
        "height": height,
        "questions": [vars(question) for question in sample.questions],
        "videos": [[_video(video, damaged) for video in seeds] for seeds in videos],
        "answers": [
            [[_answer(run, video, question) for question in sample.questions] for video in seeds] for seeds in videos
        ],
    }


def _video(video: VideoRecord | None, damaged: Set[str]) -> dict[str, Any]:
    if video is None:
        return {"error": "no video yet"}
    if video.status == "failed":
        return {"error": f"failed: {video.error}"}
    if video.job in damaged:
        return {"error": "damaged: the file is not the video that was judged"}
    return {
        "file": quote(video_file(video)),
        "width": video.width or 1,
        "height": video.height or 1,
        "fps": video.fps or 1,
    }


def _answer(run: JudgedRun, video: VideoRecord | None, question: Question) -> dict[str, Any]:
    answer = run.answers.get((video.job, question.id)) if video else None
    kind = outcome(question, answer, has_video=video is not None and video.status == "done").name.lower()
    said = answer.verdict.value if answer else kind
    return {"outcome": kind, "said": said, **(_reply(answer) if answer else {})}


def _reply(answer: AnswerRecord) -> dict[str, Any]:
    found = {"reply": answer.reply or answer.error, "p_yes": answer.p_yes}
    return {key: value for key, value in found.items() if value not in (None, "")}
