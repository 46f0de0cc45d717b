"""Measure videos: how they move, how they look, how steady they stay, how well they match image and prompt.

    metric.py         what a metric is; protocols vbench, released, native
    registry.py       metrics by name, from entry points
    NAME.py           one file per metric: dynamic_degree, dynamic_degree_dis, aesthetic_quality, subject_consistency,
                      background_consistency, temporal_flickering, i2v_subject, viclip_similarity
    omitshapes_rule.py  edit shown, rest untouched, both: OmitShapes only
    movement.py       from optical flow to dynamic or not
    consistency.py    from features to consistency
    pixels.py         from frames to the pixels that a network expects
    backbones/        the networks: RAFT, CLIP, DINO, ViCLIP
    weights.py        from a path or Hub id to tensors
    footage.py        a job's video, checked and decoded
    released.py       the re-encoding of the released evaluation
    preparation.py    weights found and loaded, settings noted
    measuring.py      a run's videos to rows
    aggregates.py     VBench's mean over a data set

Definitions, sources and licences: docs/metrics.md.
"""

from alignvid.bench.metrics.aggregates import vbench_aggregate
from alignvid.bench.metrics.measuring import Count, Measured, measure_run
from alignvid.bench.metrics.metric import (
    PROTOCOLS,
    Footage,
    Measure,
    Measurement,
    Metric,
    ProtocolName,
    Setup,
    Weights,
)
from alignvid.bench.metrics.registry import find_metrics, metric_names

__all__ = [
    "PROTOCOLS",
    "Count",
    "Footage",
    "Measure",
    "Measured",
    "Measurement",
    "Metric",
    "ProtocolName",
    "Setup",
    "Weights",
    "find_metrics",
    "measure_run",
    "metric_names",
    "vbench_aggregate",
]
