"""A run's folder: what was planned, and where each record lies. Judges, metrics, scores and reports read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from alignvid.bench.data.samples import Sample
from alignvid.bench.records import (
    AnswerRecord,
    JudgeRecord,
    MetricRecord,
    VideoRecord,
    append_rows,
    from_row,
    read_rows,
    to_row,
)
from alignvid.errors import InputError
from alignvid.files import sha256_of_file, writable_folder, write_bytes, write_together

RUN_FILE, SAMPLES_FILE = "run.json", "samples.jsonl"
ANSWERS_FILE, JUDGES_FILE, METRICS_FILE = "answers.jsonl", "judges.jsonl", "metrics.jsonl"
VIDEOS, IMAGES = "videos", "images"
SCHEMA_VERSION = 1
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What was planned, and on what."""

    data: dict[str, Any]
    """Name, digest, and `unusable`: samples that were counted and not run, each with its reason."""
    model: dict[str, Any]
    """Name, pipeline class, revision, digest of the weights where known."""
    variants: list[dict[str, Any]]
    """Each with `name`, `recipe` (None for the baseline) and `settings` of the pipeline's call."""
    seeds: list[int]
    settings: dict[str, Any]
    """Steps, guidance, size, … that all variants share."""
    versions: dict[str, str]
    machine: dict[str, Any]
    created: str
    """UTC, ISO 8601."""
    schema_version: int = SCHEMA_VERSION

    @property
    def variant_names(self) -> list[str]:
        """In the order in which they were asked for; the first is what the others are compared with."""
        return [variant["name"] for variant in self.variants]


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: Path) -> None:
        """A folder that holds a run or shall hold one; nothing is read yet."""
        self.path = path

    def exists(self) -> bool:
        """Whether a run was planned here."""
        return (self.path / RUN_FILE).exists()

    def info(self) -> RunInfo:
        """What was planned. Raises: InputError if the folder holds no run, or one of another schema."""
        file = self.path / RUN_FILE
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{str(self.path)!r} holds no run ({error}); give a folder that `alignvid bench run` wrote."
            ) from error
        known = {item.name for item in fields(RunInfo)}
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION or set(values) != known:
            raise InputError(f"{str(file)!r} is of another version of alignvid; run the benchmark anew.")
        return RunInfo(**values)

    def samples(self) -> list[Sample]:
        """The samples that are run, in order. Raises: InputError naming the line that is no sample."""
        file = self.path / SAMPLES_FILE
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"{str(file)!r} cannot be read ({error}); run the benchmark anew.") from error
        return [_sample(file, number, line) for number, line in enumerate(lines, start=1)]

    def videos(self) -> list[VideoRecord]:
        """Records of the jobs that ended, done or failed, by sample, variant and seed. A planned job without one is
        missing.
        """
        rows = [_video(file) for file in self._video_files()]
        return sorted(rows, key=lambda row: (row.sample, row.variant, row.seed))

    def videos_to_read(self) -> list[VideoRecord]:
        """The same. Raises: InputError if no job is done, so that there is nothing to judge or to measure."""
        rows = self.videos()
        if not any(row.status == "done" for row in rows):
            failed = f"; {len(rows)} jobs failed" if rows else ""
            raise InputError(
                f"{str(self.path)!r} has no videos yet{failed}; type the line of `alignvid bench run` again."
            )
        return rows

    def answers(self) -> list[AnswerRecord]:
        """The last answer of each judge, protocol and settings to each question about each job."""
        rows = read_rows(self.path / ANSWERS_FILE, AnswerRecord)
        return list({(row.judge, row.protocol, row.settings, row.job, row.question): row for row in rows}.values())

    def judges(self) -> list[JudgeRecord]:
        """What the digests in the answers stand for."""
        return list(read_rows(self.path / JUDGES_FILE, JudgeRecord))

    def metrics(self) -> list[MetricRecord]:
        """The last value of each metric, protocol and settings for each job."""
        rows = read_rows(self.path / METRICS_FILE, MetricRecord)
        return list({(row.metric, row.protocol, row.settings, row.job): row for row in rows}.values())

    def write_plan(self, info: RunInfo, samples: Iterable[Sample]) -> None:
        """Write what is planned; the run file appears last."""
        lines = "".join(json.dumps(sample.to_dict(), ensure_ascii=False) + "\n" for sample in samples)
        write_together(self.path, {SAMPLES_FILE: lines.encode(), RUN_FILE: _json(vars(info))})

    def write_image(self, name: str, content: bytes) -> None:
        """Write a sample's reference image, unless it is there; the name is relative to the run's folder."""
        path = self.path / name
        if not path.exists() or path.read_bytes() != content:
            write_together(writable_folder(path.parent), {path.name: content})

    def is_whole(self, record: VideoRecord) -> bool:
        """Whether a job is done: its video is there with the digest of its record."""
        if record.status != "done" or record.file is None:
            return False
        try:
            return sha256_of_file(self.path / record.file) == record.sha256
        except OSError:
            return False

    def write_video(self, record: VideoRecord, video: bytes | None) -> None:
        """Write a job's video and its record; the record appears last, and says by its presence that the job ended."""
        files = {} if video is None else {f"{record.job}.mp4": video}
        (self.path / VIDEOS).mkdir(parents=True, exist_ok=True)
        write_together(self.path / VIDEOS, {**files, f"{record.job}.json": _json(to_row(record))})

    def add_answers(self, rows: Iterable[AnswerRecord]) -> None:
        """Append answers."""
        append_rows(self.path / ANSWERS_FILE, rows)

    def add_judge(self, row: JudgeRecord) -> None:
        """Say once what a digest in the answers stands for."""
        if row not in self.judges():
            append_rows(self.path / JUDGES_FILE, [row])

    def add_metrics(self, rows: Iterable[MetricRecord]) -> None:
        """Append measurements."""
        append_rows(self.path / METRICS_FILE, rows)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that is derived from the records, such as the scores."""
        write_bytes(self.path / name, content)
        return self.path / name

    def _video_files(self) -> list[Path]:
        return sorted((self.path / VIDEOS).glob("*.json"))


def _video(file: Path) -> VideoRecord:
    try:
        return from_row(VideoRecord, json.loads(file.read_bytes()))
    except ValueError as error:
        raise InputError(f"{str(file)!r} is no record ({error}); remove it and resume the run.") from error


def _sample(file: Path, number: int, line: bytes) -> Sample:
    try:
        return Sample.from_dict(json.loads(line))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{str(file)!r}, line {number} is no sample ({type(error).__name__}: {error}); run the benchmark anew."
        ) from error


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
