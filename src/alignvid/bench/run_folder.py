"""A run's folder: what was planned, and where each record lies. Judges, metrics, scores and reports read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

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
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import Count, Share, json_bytes, json_values, read
from alignvid.files import (
    is_foreign,
    is_there,
    read_bytes,
    read_json,
    read_lines,
    sha256_of_file,
    writable_folder,
    write_bytes,
    write_together,
)

RUN_FILE, SAMPLES_FILE = "run.json", "samples.jsonl"
ANSWERS_FILE, JUDGES_FILE, METRICS_FILE = "answers.jsonl", "judges.jsonl", "metrics.jsonl"
VIDEOS, IMAGES = "videos", "images"
SCHEMA_VERSION = 1
BASELINE = "baseline"


class UnusableFacts(TypedDict):
    """A sample that was counted and not run."""

    sample: str
    reason: str


class DataFacts(TypedDict):
    """A data set."""

    name: str
    revision: NotRequired[str | None]
    digest: NotRequired[str]
    samples: NotRequired[Count]
    unusable: list[UnusableFacts]


class ModelFacts(TypedDict):
    """A model; revision or digest of the weights where it is known."""

    name: str
    pipeline: NotRequired[str]
    revision: NotRequired[str | None]
    digest: NotRequired[str | None]
    loras: NotRequired[list[str]]
    """Each with its digest, in the order of loading."""


class CallSettings(TypedDict, total=False):
    """What a variant changes in the pipeline's call; `still` is made without one."""

    guidance: float
    blur: float
    cfg_high: Count
    guider: str
    prompts: str
    images: str
    still: bool
    budget: Count
    n: Count
    false_yes: Share
    false_no: Share
    node: dict[str, Any]


class VariantFacts(TypedDict):
    """A variant."""

    name: str
    recipe: dict[str, Any] | None
    """None for the baseline."""
    settings: CallSettings


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What was planned, and on what."""

    data: DataFacts
    model: ModelFacts
    variants: list[VariantFacts]
    seeds: list[Count]
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
        """A folder that holds a run or will hold one; nothing is read yet."""
        self.path = path

    def exists(self) -> bool:
        """Whether a run was planned here."""
        return is_there(self.path / RUN_FILE)

    def info(self) -> RunInfo:
        """What was planned.

        Raises: InputError if the folder holds no run, one of another schema, or naming the field that is wrong.
        """
        file = self.path / RUN_FILE
        try:
            values = read_json(file, mends_text=True)
        except UnreadableFile as error:
            raise InputError(
                f"{str(self.path)!r} holds no run ({RUN_FILE}: {error.reason}); "
                "give a folder that `alignvid bench run` wrote."
            ) from error
        if isinstance(values, dict) and values.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{str(file)!r} is of another version of alignvid; run the benchmark anew.")
        info = read(RunInfo, values, what=repr(str(file)), error=InputError)
        _refuse_twice(file, "seed", info.seeds)
        _refuse_twice(file, "variant", info.variant_names)
        return info

    def samples(self) -> list[Sample]:
        """The samples that are run, in order. Raises: InputError naming the line that is no sample."""
        file = self.path / SAMPLES_FILE
        try:
            samples = [_sample(file, number, line) for number, line in read_lines(file)]
        except UnreadableFile as error:
            raise InputError(f"{str(error).rstrip('.')}; run the benchmark anew.") from error
        _refuse_twice(file, "sample", [sample.id for sample in samples])
        return samples

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
        lines = b"".join(json_bytes(sample.to_dict()) for sample in samples)
        write_together(self.path, {SAMPLES_FILE: lines, RUN_FILE: json_bytes(vars(info), indent=2)})

    def write_image(self, name: str, content: bytes) -> None:
        """Write a sample's reference image, unless it is there; the name is relative to the run's folder."""
        path = self.path / name
        if not is_there(path) or read_bytes(path) != content:
            write_together(writable_folder(path.parent), {path.name: content})

    def is_whole(self, record: VideoRecord) -> bool:
        """Whether a job is done: its video is there with the digest of its record."""
        if record.status != "done" or record.file is None:
            return False
        try:
            return sha256_of_file(self.path / record.file) == record.sha256
        except UnreadableFile:
            return False

    def write_video(self, record: VideoRecord, video: bytes | None) -> None:
        """Write a job's video and its record; the record appears last, and says by its presence that the job ended."""
        files = {} if video is None else {Path(str(record.file)).name: video}
        (self.path / VIDEOS).mkdir(parents=True, exist_ok=True)
        write_together(self.path / VIDEOS, {**files, f"{record.job}.json": json_bytes(to_row(record), indent=2)})

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
        return sorted(file for file in (self.path / VIDEOS).glob("*.json") if not is_foreign(file))


def _video(file: Path) -> VideoRecord:
    try:
        record = from_row(VideoRecord, read_json(file, mends_text=True))
        if record.status == "done" and None in (record.file, record.sha256):
            raise InputError("a job that is done has a file and its sha256")
        return record
    except InputError as error:
        reason = error.reason if isinstance(error, UnreadableFile) else str(error).rstrip(".")
        raise InputError(f"{str(file)!r} is no record ({reason}); remove it and resume the run.") from error


def _sample(file: Path, number: int, line: bytes) -> Sample:
    try:
        sample = read(Sample, json_values(line, error=InputError, mends_text=True), what="It", error=InputError)
        if len({question.id for question in sample.questions}) < len(sample.questions):
            raise InputError("two of its questions have one id")
        return sample
    except InputError as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{str(file)!r}, line {number} is no sample ({reason}); run the benchmark anew.") from error


def _refuse_twice(file: Path, what: str, names: list[Any]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{str(file)!r} has the {what} {twice[0]!r} twice; run the benchmark anew.")
