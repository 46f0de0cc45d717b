"""Records of several people as one table: by model and set-up, every arm, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignvid.bench.scoring.statistics import Estimate
from alignvid.bench.trials.outcome import ArmOutcome, outcomes_of
from alignvid.bench.trials.record import TrialRecord, read_record, same_trial
from alignvid.bench.trials.registration import Registration
from alignvid.errors import InputError

HEADINGS = (
    "model",
    "arm",
    "records",
    "verdict",
    "follows better",
    "p",
    "apart from it",
    "judge",
    "flow",
    "stillness",
    "acted",
    "time",
    "memory",
)


@dataclass(frozen=True)
class ModelOutcome:
    """All records of one model in one set-up."""

    model: str
    """With what distinguishes the set-up."""
    records: int
    arms: tuple[ArmOutcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def merge(paths: Sequence[Path]) -> list[ModelOutcome]:
    """Read records and put those of one plan together.

    Raises: InputError for a record that is damaged, of another protocol than the first, or there twice.
    """
    records = [read_record(path) for path in paths]
    if not records:
        raise InputError("There is no record to merge; give those that `alignvid trial record` wrote.")
    if (twice := same_trial(records)) is not None:
        first, second = (str(paths[index]) for index in twice)
        raise InputError(f"{first!r} and {second!r} are records of one trial; give the later one alone.")
    protocol = records[0].registration.protocol_sha256
    for path, record in zip(paths, records, strict=True):
        if record.registration.protocol_sha256 != protocol:
            raise InputError(
                f"{str(path)!r} is of another plan than {str(paths[0])!r}: other {_differs(records[0], record)}; "
                "merge only trials of the same scenes, arms, noises and criteria."
            )
    return outcomes_by_model(records)


def outcomes_by_model(records: Sequence[TrialRecord]) -> list[ModelOutcome]:
    """One entry for each plan, sorted by its name."""
    by_plan: dict[str, list[TrialRecord]] = {}
    for record in records:
        by_plan.setdefault(record.plan_sha256, []).append(record)
    found = [
        ModelOutcome(set_up(same[0].registration), len(same), tuple(outcomes_of(same))) for same in by_plan.values()
    ]
    return sorted(found, key=lambda one: one.model)


def set_up(plan: Registration) -> str:
    """The model, and what else distinguishes two plans of one protocol."""
    settings, loras = plan.settings, len(plan.model.get("loras") or ())
    parts = [f"{settings['steps']} steps"]
    if settings["guidance"] is not None:
        parts.append(f"guidance {settings['guidance']:g}")
    if loras:
        parts.append(f"{loras} LoRA" + "s" * (loras > 1))
    return f"{plan.model['name']} ({', '.join(parts)}; {plan.host})"


def rows_of(models: Sequence[ModelOutcome]) -> list[tuple[str, ...]]:
    """The table's cells, in the order of `HEADINGS`."""
    return [
        (
            one.model,
            f"{arm.arm}{' *' if arm.is_primary else ''}",
            str(one.records),
            arm.verdict,
            _estimate(arm.follows),
            "–" if arm.p_holm is None else f"{arm.p_holm:.3f}",
            _estimate(arm.apart),
            "; ".join(_estimate(value) for value in arm.judged.values()) or "–",
            _estimate(arm.flow),
            _estimate(arm.stillness, 3),
            f"{arm.acted} of {arm.made}" if arm.preset else "–",
            "–" if arm.time_ratio is None else f"{arm.time_ratio:.2f} x",
            "–" if arm.more_bytes is None else f"{round(arm.more_bytes / 2**20):+d} MiB",
        )
        for one in models
        for arm in one.arms
    ]


def markdown(models: Sequence[ModelOutcome]) -> str:
    """The table as Markdown, with what its columns mean."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows_of(models)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)
    return f"{table}\n\n{LEGEND}\n"


LEGEND = (
    "Against the baseline, means over scenes with 95 % intervals and the number of scenes. * the primary arm. Follows "
    "better and apart from it: share of scenes won less those lost, by people who saw no names. Judge: gain in "
    "questions right. Flow: in per cent of the short side. Acted: clips in which the gain acted as its recipe says. "
    "Time: median ratio of a clip's seconds."
)


def _estimate(value: Estimate, digits: int = 2) -> str:
    if value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:+.{digits}f} (n {value.n})"
    return f"{value.value:+.{digits}f} ({value.low:+.{digits}f} to {value.high:+.{digits}f}; n {value.n})"


def _differs(first: TrialRecord, second: TrialRecord) -> str:
    one, other = first.registration, second.registration
    names = {"criteria": "criteria", "asked": "arms", "scenes": "scenes", "seeds": "noises"}
    return ", ".join(word for name, word in names.items() if getattr(one, name) != getattr(other, name))
