"""The file that an exact audit leaves, read back for the report of a run that the same judge has judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from alignvid.bench.scoring.judged_run import Judging
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import Count, read
from alignvid.files import read_json


class EstimateFacts(TypedDict):
    """A value with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None
    n: Count


class ExactFacts(TypedDict):
    """What is read of an exact audit."""

    judge: str
    protocol: str
    settings: str
    scenes: Count
    hits: Count
    misses: Count
    false_alarms: Count
    rejections: Count
    sensitivity: EstimateFacts
    specificity: EstimateFacts
    yes_bias: EstimateFacts
    denial_bias: EstimateFacts
    brier: NotRequired[EstimateFacts | None]


def read_exact(path: Path, judging: Judging) -> ExactFacts:
    """The rates of a judge. Raises: InputError if the file is none, or of another judge than the run's."""
    return read_exact_of(path, judging.judge, judging.protocol, judging.settings)


def read_exact_of(path: Path, judge: str, protocol: str, settings: str) -> ExactFacts:
    """The rates of the judge of this identity. Raises: InputError if the file is none, or of another judge."""
    try:
        values: Any = read_json(path)
    except UnreadableFile as error:
        raise InputError(f"The audit {str(error).rstrip('.')}; give the exact-….json of an exact audit.") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(path)!r} is no exact audit; give the exact-….json that one left in its folder.")
    wanted = {name: values[name] for name in ExactFacts.__annotations__ if name in values}
    facts = read(ExactFacts, wanted, what=repr(str(path)), error=InputError)
    audited = (facts["judge"], facts["protocol"], facts["settings"])
    if audited != (judge, protocol, settings):
        raise InputError(
            f"{str(path)!r} is an audit of {audited[0]}, protocol {audited[1]}, settings {audited[2]}, and this is "
            f"judged by {judge}, protocol {protocol}, settings {settings}; audit that one."
        )
    return facts


def counts(facts: ExactFacts) -> np.ndarray:
    """Truth (yes, no) by verdict (yes, no)."""
    return np.array([[facts["hits"], facts["misses"]], [facts["false_alarms"], facts["rejections"]]])
