"""The record of a trial: everything that can be told without its pictures, in one file that others can merge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from alignvid.bench.records import MetricRecord, ProofFacts, VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.variants import BASELINE
from alignvid.bench.scoring.judged_run import Asked, Cell, read_judged_run
from alignvid.bench.scoring.outcomes import PRESENT, Outcome, are, outcomes
from alignvid.bench.trials.blind import AnswerFacts, Rater
from alignvid.bench.trials.registration import Registration, registration_of
from alignvid.errors import InputError, OutputError, UnreadableFile
from alignvid.fields import Count, json_bytes, read
from alignvid.files import read_json
from alignvid.generate.record import machine_facts, package_versions

RECORD_FILE = "trial-record.json"
KIND, SCHEMA_VERSION = "alignvid trial", 1
MAX_BYTES = 5_000_000
FLOW, STILLNESS = "dynamic_degree_dis", "temporal_flickering"
"""Metrics of the benchmark, by the protocol `PROTOCOL`; neither needs weights."""
PROTOCOL = "native"


class ClipFacts(TypedDict):
    """One planned clip."""

    arm: str
    scene: str
    seed: Count
    made: bool
    sha256: str | None
    seconds: float | None
    peak_bytes: Count | None
    proof: ProofFacts | None
    flow: float | None
    """Mean over pairs of frames of the fastest 5 % of the optical flow, in per cent of the short side."""
    stillness: float | None
    """1 minus the mean difference of neighbouring frames over 255; 1 is a picture that stands still."""


class CellFacts(TypedDict):
    """What a judge made of one clip."""

    arm: str
    scene: str
    seed: Count
    right: Count
    asked: Count


class JudgingFacts(TypedDict):
    """One judge's verdicts."""

    judge: str
    protocol: str
    settings: str
    cells: list[CellFacts]


class RaterFacts(TypedDict):
    """One person's answers."""

    file_sha256: str
    answers: list[AnswerFacts]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial."""

    plan: dict[str, Any]
    """As it was registered."""
    plan_sha256: str
    created: str
    """When the run was planned; with the plan it says which trial this is."""
    machine: dict[str, Any]
    versions: dict[str, str]
    clips: list[ClipFacts]
    raters: list[RaterFacts]
    judgings: list[JudgingFacts]
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION

    @property
    def registration(self) -> Registration:
        """The plan, read."""
        return registration_of(self.plan, "The plan of the record")

    @property
    def digest(self) -> str:
        """Of the whole record."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The record's file. Raises: OutputError if it is larger than what is easily sent."""
        content = json_bytes({**asdict(self), "record_sha256": self.digest}, indent=1)
        if len(content) > MAX_BYTES:
            raise OutputError(
                f"The record would have {len(content):,} bytes, and at most {MAX_BYTES:,} are meant to be sent; "
                "run a trial of fewer scenes."
            )
        return content


def record_of(plan: Registration, folder: RunFolder, raters: Iterable[Rater]) -> TrialRecord:
    """The record of a trial's folder as it is now; clips that are missing are in it as such."""
    videos = {(row.variant, row.sample, row.seed): row for row in folder.videos() if folder.is_whole(row)}
    metrics = {(row.metric, row.job): row for row in folder.metrics() if row.protocol == PROTOCOL}
    planned = [(arm, scene["id"], seed) for arm in plan.arms for scene in plan.scenes for seed in plan.seeds]
    return TrialRecord(
        plan=plan.to_dict(),
        plan_sha256=plan.plan_sha256,
        created=folder.info().created,
        machine=machine_facts(),
        versions=package_versions(),
        clips=[_clip(*place, videos.get(place), metrics) for place in planned],
        raters=[RaterFacts(file_sha256=rater.file_sha256, answers=list(rater.answers)) for rater in raters],
        judgings=_judgings(folder),
    )


def read_record(path: Path) -> TrialRecord:
    """The record in a file.

    Raises: InputError if it is none, was damaged, or its plan is not the one that was registered.
    """
    try:
        values = read_json(path)
    except UnreadableFile as error:
        raise InputError(
            f"The record {str(error).rstrip('.')}; give one that `alignvid trial record` wrote."
        ) from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise InputError(f"{str(path)!r} is no record of a trial; give one that `alignvid trial record` wrote.")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{str(path)!r} is of another version of alignvid; read it with that one.")
    said = values.pop("record_sha256", None)
    record = read(TrialRecord, values, what=repr(str(path)), error=InputError)
    if record.digest != said:
        raise InputError(f"{str(path)!r} is damaged or was changed: its digest is not that of what it holds.")
    if record.registration.plan_sha256 != record.plan_sha256:
        raise InputError(f"{str(path)!r} holds a plan that was changed after it was registered; it cannot be used.")
    return record


def _clip(
    arm: str,
    scene: str,
    seed: int,
    video: VideoRecord | None,
    metrics: dict[tuple[str, str], MetricRecord],
) -> ClipFacts:
    return ClipFacts(
        arm=arm,
        scene=scene,
        seed=seed,
        made=video is not None,
        sha256=video.sha256 if video else None,
        seconds=video.seconds if video else None,
        peak_bytes=video.peak_bytes if video else None,
        proof=video.proof if video else None,
        flow=_flow(video, metrics) if video else None,
        stillness=_value(STILLNESS, video, metrics) if video else None,
    )


def _value(metric: str, video: VideoRecord, metrics: dict[tuple[str, str], MetricRecord]) -> float | None:
    row = metrics.get((metric, video.job))
    return row.value if row is not None and row.video_sha256 == video.sha256 else None


def _flow(video: VideoRecord, metrics: dict[tuple[str, str], MetricRecord]) -> float | None:
    row = metrics.get((FLOW, video.job))
    if row is None or row.value is None or row.video_sha256 != video.sha256 or not row.details.get("pairs"):
        return None
    pairs, side = row.details["pairs"], min(video.width or 1, video.height or 1)
    return 100 * sum(pairs) / len(pairs) / side


def _judgings(folder: RunFolder) -> list[JudgingFacts]:
    """Every judging in the folder, scored as `bench score` scores it."""
    found: list[JudgingFacts] = []
    for judge, protocol, settings in sorted({(row.judge, row.protocol, row.settings) for row in folder.answers()}):
        run = read_judged_run(folder, Asked(judge, protocol, settings))
        table = outcomes(run).table
        right, asked = (table == Outcome.RIGHT).sum(-1), are(table, PRESENT).sum(-1)
        cells = [
            CellFacts(arm=arm, scene=sample.id, seed=seed, right=int(right[v, s, e]), asked=int(asked[v, s, e]))
            for v, arm in enumerate(run.variants)
            for s, sample in enumerate(run.samples)
            for e, seed in enumerate(run.seeds)
            if Cell(sample.id, arm, seed) in run.videos
        ]
        found.append(JudgingFacts(judge=judge, protocol=protocol, settings=settings, cells=cells))
    return found


def clips_of(record: TrialRecord, arm: str) -> dict[tuple[str, int], ClipFacts]:
    """An arm's clips that were made, by scene and seed."""
    return {(clip["scene"], clip["seed"]): clip for clip in record.clips if clip["arm"] == arm and clip["made"]}


def baseline_of(record: TrialRecord) -> dict[tuple[str, int], ClipFacts]:
    """What every arm is compared with."""
    return clips_of(record, BASELINE)


def same_trial(records: Sequence[TrialRecord]) -> tuple[int, int] | None:
    """Two of the records that are states of one trial, if there are any."""
    seen: dict[tuple[str, str], int] = {}
    for index, record in enumerate(records):
        before = seen.setdefault((record.plan_sha256, record.created), index)
        if before != index:
            return before, index
    return None
