"""What one or more records of the same plan say of each arm, by the criteria that were registered.

The unit is the scene, as everywhere in the benchmark: its noises, its raters and the records that hold it are averaged
first. The statistics are those of `alignvid.bench.scoring`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import numpy as np

from alignvid.bench.runs.variants import BASELINE, STILL
from alignvid.bench.scoring.statistics import DIFFERENCE_OF_SHARES, Estimate, holm, mean, permutation_p
from alignvid.bench.trials.criteria import ALPHA, FEWEST_SCENES, MARGIN
from alignvid.bench.trials.record import ClipFacts, TrialRecord, baseline_of, clips_of
from alignvid.bench.trials.registration import Registration

Verdict = Literal["helps", "helps, at a price", "no difference shown", "hurts", "not decided"]
Valued = Iterator[tuple[str, float]]
"""A scene and one value of it."""


@dataclass(frozen=True, kw_only=True)
class ArmOutcome:
    """An arm against the baseline."""

    arm: str
    is_primary: bool
    preset: str
    """What acted there, by name; empty where nothing was attached."""
    planned: int
    made: int
    acted: int
    """Clips in which keys were multiplied and nothing was warned of."""
    follows: Estimate
    """People: share of scenes in which the arm follows better, less those in which the baseline does."""
    wins: int
    ties: int
    losses: int
    p: float | None
    p_holm: float | None
    """Of secondary arms, adjusted for all of them; the primary arm's own p."""
    apart: Estimate
    """The same apart from the prompt."""
    apart_low: float | None
    """One-sided: with 95 % confidence it is above this."""
    judged: Mapping[str, Estimate]
    """By judge: gain in the share of questions that is right."""
    flow: Estimate
    """More movement, in per cent of the short side."""
    stillness: Estimate
    time_ratio: float | None
    """Median of seconds against the baseline's clip of the same scene and noise."""
    more_bytes: int | None
    """Peak memory beyond the baseline's."""
    verdict: Verdict
    why: str


def outcomes_of(records: Sequence[TrialRecord]) -> list[ArmOutcome]:
    """Every arm but baseline and still; the records are of one plan."""
    plan = records[0].registration
    arms = [name for name in plan.arms if name not in (STILL, BASELINE)]
    rows = [_outcome(records, plan, arm) for arm in arms]
    others = [index for index, row in enumerate(rows) if not row.is_primary]
    adjusted = dict(zip(others, holm([rows[index].p for index in others]), strict=True))
    rows = [replace(row, p_holm=adjusted.get(index, row.p)) for index, row in enumerate(rows)]
    return [_decided(row) for row in rows]


def _outcome(records: Sequence[TrialRecord], plan: Registration, arm: str) -> ArmOutcome:
    clips = [clip for record in records for clip in clips_of(record, arm).values()]
    follows, apart = (_by_scene(_answers(records, arm, name)) for name in ("follows", "apart"))
    judges = sorted({f"{one['judge']}, {one['protocol']}" for record in records for one in record.judgings})
    proofs = [clip["proof"] for clip in clips if clip["proof"] is not None]
    return ArmOutcome(
        arm=arm,
        is_primary=arm == plan.primary,
        preset="; ".join(sorted({proof["name"] for proof in proofs})),
        planned=len(records) * len(plan.scenes) * len(plan.seeds),
        made=len(clips),
        acted=sum(bool(proof["acted"]) and not proof["warnings"] for proof in proofs),
        follows=mean(follows, DIFFERENCE_OF_SHARES),
        wins=int((follows > 0).sum()),
        ties=int((follows == 0).sum()),
        losses=int((follows < 0).sum()),
        p=permutation_p(follows),
        p_holm=None,
        apart=mean(apart, DIFFERENCE_OF_SHARES),
        apart_low=mean(apart, DIFFERENCE_OF_SHARES, side="greater").low,
        judged={name: mean(_by_scene(_judged(records, arm, name)), DIFFERENCE_OF_SHARES) for name in judges},
        flow=mean(_by_scene(_differences(records, arm, lambda clip: clip["flow"])), None),
        stillness=mean(_by_scene(_differences(records, arm, lambda clip: clip["stillness"])), None),
        time_ratio=_time_ratio(records, arm),
        more_bytes=_more_bytes(records, arm),
        verdict="not decided",
        why="",
    )


def _decided(row: ArmOutcome) -> ArmOutcome:
    verdict, why = _verdict(row)
    return replace(row, verdict=verdict, why=why)


def _verdict(row: ArmOutcome) -> tuple[Verdict, str]:
    """The criteria, in the order in which they are asked."""
    if row.preset and row.acted < row.made:
        return "not decided", f"it acted as its recipe says in {row.acted} of {row.made} clips only"
    if row.follows.n < FEWEST_SCENES:
        return "not decided", f"people compared {row.follows.n} of its scenes, and {FEWEST_SCENES} are needed"
    value, p = row.follows.value or 0.0, 1.0 if row.p_holm is None else row.p_holm
    if p >= ALPHA or not value:
        return "no difference shown", f"p {p:.3f}; that is no proof that there is none"
    if value < 0:
        return "hurts", f"the baseline follows better, p {p:.3f}"
    if row.apart_low is None or row.apart_low <= -MARGIN:
        return "helps, at a price", "it follows better, and may lose a third of the scenes apart from the prompt"
    return "helps", f"it follows better, p {p:.3f}, and is not shown to lose apart from the prompt"


def _by_scene(values: Iterable[tuple[str, float]]) -> np.ndarray:
    """Means of scenes, in the order of their names."""
    scenes: dict[str, list[float]] = {}
    for scene, value in values:
        scenes.setdefault(scene, []).append(value)
    return np.array([sum(scenes[scene]) / len(scenes[scene]) for scene in sorted(scenes)], float)


def _answers(records: Sequence[TrialRecord], arm: str, name: Literal["follows", "apart"]) -> Valued:
    for record in records:
        for rater in record.raters:
            yield from ((row["scene"], float(row[name])) for row in rater["answers"] if row["arm"] == arm)


def _judged(records: Sequence[TrialRecord], arm: str, name: str) -> Valued:
    for record in records:
        for judging in record.judgings:
            if f"{judging['judge']}, {judging['protocol']}" != name:
                continue
            shares = {
                (cell["arm"], cell["scene"], cell["seed"]): cell["right"] / cell["asked"]
                for cell in judging["cells"]
                if cell["asked"]
            }
            for (which, scene, seed), share in shares.items():
                base = shares.get((BASELINE, scene, seed))
                if which == arm and base is not None:
                    yield scene, share - base


def _differences(records: Sequence[TrialRecord], arm: str, value: Callable[[ClipFacts], float | None]) -> Valued:
    for record in records:
        base = baseline_of(record)
        for place, clip in clips_of(record, arm).items():
            one, other = value(clip), value(base[place]) if place in base else None
            if one is not None and other is not None:
                yield place[0], one - other


def _time_ratio(records: Sequence[TrialRecord], arm: str) -> float | None:
    """Without each scene's first noise, where there are more: ComfyUI reads text and picture in its first clip."""
    ratios = []
    for record in records:
        seeds = record.registration.seeds
        base = baseline_of(record)
        for place, clip in clips_of(record, arm).items():
            other = base.get(place)
            if (place[1] == seeds[0] and len(seeds) > 1) or other is None:
                continue
            if clip["seconds"] and other["seconds"]:
                ratios.append(clip["seconds"] / other["seconds"])
    return median(ratios) if ratios else None


def _more_bytes(records: Sequence[TrialRecord], arm: str) -> int | None:
    more = []
    for record in records:
        base = baseline_of(record)
        for place, clip in clips_of(record, arm).items():
            other = base.get(place)
            if other is not None and clip["peak_bytes"] is not None and other["peak_bytes"] is not None:
                more.append(clip["peak_bytes"] - other["peak_bytes"])
    return round(median(more)) if more else None
