"""The rows that a run leaves, and the JSON Lines files that hold them.

How they are appended and read back: alignvid.files.lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.fields import Count, Duration, InnerPath, Positive, Share, json_bytes, read
from alignvid.files import append_lines, json_lines

SCHEMA_VERSION = 1
NOT_LOADED = "not loaded"
"""Stands for the digest of settings where a metric could not run; its weights, and so its settings, are not known."""


class ProofFacts(TypedDict):
    """What acted in the making of a video, counted where keys are multiplied."""

    name: str
    """Of the preset or recipe."""
    sites: Count
    forwards: Count
    active_forwards: Count
    acted: Count
    warnings: list[str]
    """Where the gain did not act as its recipe says."""


Row = TypeVar("Row", "VideoRecord", "AnswerRecord", "JudgeRecord", "MetricRecord")
AnyRecord: TypeAlias = "VideoRecord | AnswerRecord | JudgeRecord | MetricRecord"


@dataclass(frozen=True, kw_only=True)
class VideoRecord:
    """One job: a sample, a variant and a seed, and the video that came of it."""

    job: str
    """Hash of everything that decides the video; the stem of its files."""
    sample: str
    variant: str
    seed: int
    """One of the run's."""
    noise_seed: int | None = None
    """Of the initial noise, made of sample and seed; `alignvid generate --seed` takes it."""
    status: Literal["done", "failed"]
    error: str | None = None
    """Why it failed, in one sentence."""
    file: InnerPath | None = None
    """Relative to the run's folder."""
    sha256: str | None = None
    """Of the file."""
    frames_sha256: str | None = None
    """Of the frames before encoding."""
    frames: Positive | None = None
    width: Positive | None = None
    height: Positive | None = None
    fps: Duration | None = None
    seconds: Duration | None = None
    """Time that the pipeline took; no part of what is compared."""
    attempts: Positive | None = None
    """Videos that were made for it, where a loop chose it among several."""
    peak_bytes: Count | None = None
    """Most memory that the pipeline held: on the GPU what PyTorch allocated, else what the process held."""
    proof: ProofFacts | None = None
    """What acted; None where nothing was attached."""


@dataclass(frozen=True, kw_only=True)
class AnswerRecord:
    """One answer of one judge to one question about one video."""

    judge: str
    """Kind and model: "rule", "transformers:Qwen/Qwen2.5-VL-32B-Instruct", …"""
    protocol: str
    """How the question was put: "rule", "paper", "logit"."""
    settings: str
    """Digest of all that decides the answer besides video and question."""
    job: str
    sample: str
    question: str
    """Id within the sample."""
    video_sha256: str
    verdict: Verdict
    reply: str | None = None
    """The text, as it came."""
    p_yes: Share | None = None
    """Probability of yes among yes and no; protocol "logit" only."""
    error: str | None = None
    """Why it FAILED."""
    attempts: Count = 1
    seconds: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeRecord:
    """What the digest in a judge's answers stands for; written once."""

    judge: str
    protocol: str
    settings: str
    """The digest."""
    values: dict[str, Any]
    """The settings in full."""


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    """One measurement of one video."""

    metric: str
    protocol: str
    """Whose definition: "vbench", "released" or "native"."""
    settings: str
    """Digest of all that decides the value besides the video, weights included; or `NOT_LOADED`."""
    job: str
    sample: str
    video_sha256: str
    value: float | None
    """None where it could not be measured; `error` says why."""
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What the value was made from, such as the score of each pair of frames."""


def to_row(record: AnyRecord) -> dict[str, Any]:
    """Plain data for one line."""
    return {"schema_version": SCHEMA_VERSION, **asdict(record)}


def from_row(kind: type[Row], values: Any) -> Row:
    """Read a dict written by `to_row`. Raises: InputError for another version, or naming the field that is wrong."""
    name = kind.__name__
    if isinstance(values, Mapping):
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(f"{name} has schema version {version!r}, this alignvid reads {SCHEMA_VERSION}.")
        values = {field: value for field, value in values.items() if field != "schema_version"}
    return read(kind, values, what=name, error=InputError)


def read_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    """The rows of a JSON Lines file, in order; a missing file has none, a torn last line is passed over.

    Raises: InputError naming file and line if any other line is no row.
    """
    for place, values in json_lines(path):
        try:
            yield from_row(kind, values)
        except InputError as error:
            raise InputError(f"{place} is no row: {_without_stop(error)}; mend or remove it.") from error


def append_rows(path: Path, rows: Iterable[AnyRecord]) -> None:
    """Append rows, each as one write, and flush them to the disk; a torn last line is removed first.

    One process appends to a file at a time.

    Raises: OutputError if they cannot be written; the rows before them stay.
    """
    append_lines(path, [json_bytes(to_row(row)) for row in rows])


def _without_stop(error: Exception) -> str:
    return str(error).rstrip(".")
