"""Measure the videos of a run: each is decoded once for all metrics, each value becomes a row, what is there stays."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignvid.bench.data.samples import Sample
from alignvid.bench.metrics.footage import read_footage
from alignvid.bench.metrics.metric import PROTOCOLS, Footage, Measure, Measurement, Metric, ProtocolName
from alignvid.bench.metrics.preparation import Ready, library_version, prepare
from alignvid.bench.metrics.registry import find_metrics
from alignvid.bench.metrics.released import Ratio, nearest_ratio, reencoded
from alignvid.bench.metrics.weights import check_names
from alignvid.bench.records import MetricRecord, VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.errors import AlignvidError, InputError, pass_on_interrupt
from alignvid.fields import json_bytes, read_as
from alignvid.files import held, is_there, read_json
from alignvid.generate.device import choose_device

SETTINGS_FILE = "metric-settings.json"
"""In the run's folder: the settings behind each digest in metrics.jsonl."""
_LOCK = ".measuring.lock"

_logger = logging.getLogger(__name__)

OnRow = Callable[[MetricRecord], None]


@dataclass(frozen=True, kw_only=True)
class Count:
    """What became of one metric over a run."""

    metric: str
    measured: int
    """Values on record, old and new."""
    failed: int
    """Videos that have none, each with its reason in a row."""
    error: str | None
    """Why the metric cannot run at all, if it cannot."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of a run's videos."""

    protocol: ProtocolName
    videos: int
    without_video: int
    """Jobs that failed, so that there is nothing to measure."""
    counts: tuple[Count, ...]


def measure_run(
    folder: RunFolder,
    names: Sequence[str],
    *,
    protocol: ProtocolName | None = None,
    sources: Mapping[str, str],
    device: str | None = None,
    ratio: Ratio | None = None,
    on_row: OnRow = lambda row: None,
) -> Measured:
    """Measure every video of a run that has no value yet, and append the rows.

    A value stays while metric, protocol, settings, job and the video's digest are the same; what failed is tried again.

    Args:
        folder: The run.
        names: Of the metrics.
        protocol: Whose definition; the first that all of these metrics know unless given.
        sources: Paths or Hub ids of weights, by name.
        device: The best one here unless given.
        ratio: For the protocol "released": the shape to stretch to; the nearest to the first video's unless given.
        on_row: Called with every new row.

    Raises: InputError for an unknown metric, name of weights or device, a protocol that a metric does not know, or a
    folder without a run, without videos, or that another process measures.
    """
    folder.info()
    metrics = find_metrics(names)
    check_names(sources, metrics)
    protocol = _protocol_for(metrics, protocol)
    chosen_device = choose_device(device, "float32", "none").name
    records = folder.videos_to_read()
    done = [record for record in records if record.status == "done"]
    ratio = _ratio(done, protocol, ratio)
    extra = {} if ratio is None else {"ratio": list(ratio), "opencv": library_version("opencv-python-headless")}
    ready = [
        prepare(metric, protocol=protocol, sources=sources, device=chosen_device, extra=extra) for metric in metrics
    ]
    busy = f"{str(folder.path)!r} is being measured by another process; wait until it ends."
    with held(folder.path / _LOCK, busy=busy):
        _note_settings(folder, ready)
        rows = _measure_all(folder, done, ready, protocol, ratio, on_row)
    return Measured(
        protocol=protocol,
        videos=len(done),
        without_video=len(records) - len(done),
        counts=tuple(_count(item, rows) for item in ready),
    )


def _measure_all(
    folder: RunFolder,
    records: Sequence[VideoRecord],
    ready: Sequence[Ready],
    protocol: ProtocolName,
    ratio: Ratio | None,
    on_row: OnRow,
) -> list[MetricRecord]:
    """The rows of these metrics for these videos, those that were there and those that are new."""
    known = {_key(row): row for row in folder.metrics()}
    samples = {sample.id: sample for sample in folder.samples()}
    rows: list[MetricRecord] = []
    for record in records:
        blanks = [_blank(item, protocol, record) for item in ready]
        earlier = [known.get(_key(blank)) for blank in blanks]
        todo = [
            pair
            for pair, old in zip(zip(ready, blanks, strict=True), earlier, strict=True)
            if not _is_kept(old, record)
        ]
        rows += [old for old in earlier if old is not None and _is_kept(old, record)]
        fresh = list(_measure_video(folder, record, samples[record.sample], todo, ratio))
        folder.add_metrics(row for row in fresh if row != known.get(_key(row)))
        for row in fresh:
            on_row(row)
        rows += fresh
    return rows


def _measure_video(
    folder: RunFolder,
    record: VideoRecord,
    sample: Sample,
    todo: Sequence[tuple[Ready, MetricRecord]],
    ratio: Ratio | None,
) -> Iterator[MetricRecord]:
    """One row per metric; the video is read if any metric can run."""
    footage: Footage | str | None = None
    for item, blank in todo:
        if item.measure is None:
            yield replace(blank, error=item.error)
            continue
        if footage is None:
            footage = _footage(folder, record, sample, ratio)
        yield replace(blank, error=footage) if isinstance(footage, str) else _measured(item.measure, blank, footage)


def _measured(measure: Measure, blank: MetricRecord, footage: Footage) -> MetricRecord:
    """The row of one metric of one video: its value, or why it has none."""
    try:
        measurement = measure(footage)
    except AlignvidError as error:
        return replace(blank, error=str(error))
    except Exception as error:  # one video must not end the run of all
        pass_on_interrupt(error)
        _logger.exception("%s failed on %s", blank.metric, blank.job)
        return replace(blank, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if not is_finite(measurement):
        return replace(blank, error="The value is not a finite number; check the weights and the video.")
    return replace(blank, value=measurement.value, details=measurement.details)


def _footage(folder: RunFolder, record: VideoRecord, sample: Sample, ratio: Ratio | None) -> Footage | str:
    """The video, re-encoded if a ratio is given; or the reason why there is none."""
    try:
        footage = read_footage(folder.path, record, sample)
        return footage if ratio is None else reencoded(footage, ratio)
    except AlignvidError as error:
        return str(error)


def is_finite(measurement: Measurement) -> bool:
    """Whether the value is a number, and its details can be written as JSON."""
    try:
        json.dumps(measurement.details, allow_nan=False)
    except ValueError:
        return False
    return math.isfinite(measurement.value)


def _blank(item: Ready, protocol: ProtocolName, record: VideoRecord) -> MetricRecord:
    return MetricRecord(
        metric=item.metric.name,
        protocol=protocol,
        settings=item.settings_digest,
        job=record.job,
        sample=record.sample,
        video_sha256=record.sha256 or "",
        value=None,
    )


def _key(row: MetricRecord) -> tuple[str, str, str, str]:
    return row.metric, row.protocol, row.settings, row.job


def _is_kept(row: MetricRecord | None, record: VideoRecord) -> bool:
    """Whether a row that is there is a value of this very video."""
    return row is not None and row.value is not None and row.video_sha256 == record.sha256


def _protocol_for(metrics: Sequence[Metric], asked: ProtocolName | None) -> ProtocolName:
    """The protocol that was asked for, or the first one that all of the metrics know."""
    shared: list[ProtocolName] = [known for known in PROTOCOLS if all(known in metric.protocols for metric in metrics)]
    if asked is None and shared:
        return shared[0]
    if asked is not None and asked in shared:
        return asked
    narrow = next(metric for metric in metrics if asked not in metric.protocols)
    raise InputError(
        f"The metric {narrow.name} is defined by the protocol {' or '.join(narrow.protocols)} only"
        f"{'' if asked is None else f', not {asked}'}; choose that, or measure it in a line of its own."
    )


def _ratio(records: Sequence[VideoRecord], protocol: ProtocolName, ratio: Ratio | None) -> Ratio | None:
    if protocol != "released":
        if ratio is not None:
            raise InputError(f"A ratio goes with the protocol released, not {protocol!r}; leave it out.")
        return None
    first = next(iter(records), None)
    if ratio is not None or first is None:
        return ratio or (1, 1)
    return nearest_ratio(first.width or 1, first.height or 1)


def _count(item: Ready, rows: Sequence[MetricRecord]) -> Count:
    own = [row for row in rows if row.metric == item.metric.name]
    measured = sum(row.value is not None for row in own)
    return Count(metric=item.metric.name, measured=measured, failed=len(own) - measured, error=item.error)


def _note_settings(folder: RunFolder, ready: Sequence[Ready]) -> None:
    """Add to the file that says what each digest of settings stands for."""
    path = folder.path / SETTINGS_FILE
    known: dict[str, Any] = {}
    if is_there(path):
        known = read_as(dict[str, Any], read_json(path), what=repr(str(path)), error=InputError)
    new = {item.settings_digest: item.settings for item in ready if item.measure is not None}
    if not new.keys() <= known.keys():
        folder.write(SETTINGS_FILE, json_bytes(dict(sorted({**known, **new}.items())), indent=2))
