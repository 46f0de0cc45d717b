"""Made runs: real folders with records and tiny real videos, and answers that a test decides."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from alignvid.bench.data.samples import MAIN_CATEGORIES, Question, Sample
from alignvid.bench.records import AnswerRecord, MetricRecord, VideoRecord, to_row
from alignvid.bench.run_folder import ANSWERS_FILE, IMAGES, METRICS_FILE, VIDEOS, RunFolder, RunInfo
from alignvid.bench.verdicts import Verdict
from alignvid.files import sha256_of_bytes
from alignvid.media.videos import encode_video

Decide = Callable[[Sample, str, int, Question], Verdict | None]
"""What a judge says of a sample, variant, seed and question; None: it was not asked."""


def sample_of(number: int, *, questions: int = 2, prompt: str | None = None, categories=("edit", "rest")) -> Sample:
    asked = tuple(
        Question(
            id=f"q{index}",
            question=f"Is claim {index} of scene {number} true?",
            expected_answer="yes" if (number + index) % 2 else "no",
            category=categories[index % len(categories)],
        )
        for index in range(questions)
    )
    return Sample(
        id=f"sample_{number}",
        image_path=f"images/sample_{number}.png",
        prompt=prompt or f"scene {number}: add a green circle at the top left",
        main_category=MAIN_CATEGORIES[number % 3],
        sub_category=f"kind {number % 5}",
        domain=("nature", "objects", "text")[number % 3 - 1],
        expected_change="a green circle appears",
        resolution=(32, 32),
        questions=asked,
    )


def moving_square(frames: int = 24) -> bytes:
    """A real clip of 32×32 pixels at 8 fps."""
    pixels = np.full((frames, 32, 32, 3), (235, 225, 210), np.uint8)
    for index in range(frames):
        pixels[index, 8:16, index % 24 : index % 24 + 8] = (200, 60, 40)
    return encode_video(pixels, fps=8)


def right(question: Question) -> Verdict:
    return Verdict(question.expected_answer)


def wrong(question: Question) -> Verdict:
    return Verdict.NO if question.expected_answer == "yes" else Verdict.YES


def always_right(sample, variant, seed, question):
    return right(question)


def write_run(
    path: Path,
    samples: Sequence[Sample],
    *,
    variants: Sequence[str] = ("baseline", "alignvid"),
    seeds: Sequence[int] = (0,),
    decide: Decide = always_right,
    missing: set[tuple[str, str, int]] = frozenset(),
    metrics: dict[str, Callable[[Sample, str, int], float | None]] | None = None,
    clip: bytes | None = None,
    judge: str = "rule",
    protocol: str = "rule",
) -> RunFolder:
    """A finished run, whose videos are all the same MP4; without `clip` they are records only."""
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder.write_plan(info_of(variants, seeds, len(samples)), samples)
    for name in (VIDEOS, IMAGES):
        (path / name).mkdir(exist_ok=True)
    answers, values = [], []
    for sample in samples:
        Image.new("RGB", sample.resolution, (200, 180, 160)).save(path / sample.image_path)
        for variant in variants:
            for seed in seeds:
                video = _write_video(folder, sample, variant, seed, missing, clip)
                if video is None:
                    continue
                answers += [
                    answer_of(video, question, verdict, judge, protocol)
                    for question in sample.questions
                    if (verdict := decide(sample, variant, seed, question)) is not None
                ]
                values += [
                    metric_of(video, name, value(sample, variant, seed)) for name, value in (metrics or {}).items()
                ]
    _append(path / ANSWERS_FILE, answers)
    _append(path / METRICS_FILE, values)
    return folder


def info_of(variants: Sequence[str], seeds: Sequence[int], count: int) -> RunInfo:
    return RunInfo(
        data={"name": "omitshapes", "samples": count, "unusable": []},
        model={"name": "miniature", "pipeline": "WanImageToVideoPipeline"},
        variants=[{"name": name, "recipe": None, "settings": {}} for name in variants],
        seeds=list(seeds),
        settings={"steps": 10, "guidance": 1.0, "fps": 8},
        versions={"python": "3.11.7"},
        machine={"cores": 2},
        created="2026-11-24T00:00:00+00:00",
    )


def answer_of(video, question, verdict, judge="rule", protocol="rule", settings="0" * 8, **more) -> AnswerRecord:
    return AnswerRecord(
        judge=judge,
        protocol=protocol,
        settings=settings,
        job=video.job,
        sample=video.sample,
        question=question.id,
        video_sha256=video.sha256,
        verdict=verdict,
        reply=f"{verdict}, because of what is seen",
        **more,
    )


def metric_of(video, name, value, protocol="native") -> MetricRecord:
    return MetricRecord(
        metric=name,
        protocol=protocol,
        settings="1" * 8,
        job=video.job,
        sample=video.sample,
        video_sha256=video.sha256,
        value=value,
        error=None if value is not None else "no weights",
    )


def _write_video(folder, sample, variant, seed, missing, clip) -> VideoRecord | None:
    if (sample.id, variant, seed) in missing:
        return None
    job = sha256_of_bytes(f"{sample.id} {variant} {seed}".encode())[:16]
    record = VideoRecord(
        job=job,
        sample=sample.id,
        variant=variant,
        seed=seed,
        status="done",
        file=f"{VIDEOS}/{job}.mp4",
        sha256=sha256_of_bytes(clip or job.encode()),
        frames=9,
        width=32,
        height=32,
        fps=8.0,
    )
    if clip is not None:
        (folder.path / VIDEOS / f"{job}.mp4").write_bytes(clip)
    # As RunFolder.write_video does, without its flush to the disk after each of thousands.
    (folder.path / VIDEOS / f"{job}.json").write_text(json.dumps(to_row(record)))
    return record


def _append(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(to_row(row)) + "\n" for row in rows))
