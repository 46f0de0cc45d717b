"""Run a trial: say what it costs, write the plan down, make the clips, measure flow and stillness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alignvid.bench.metrics.measuring import Measured, measure_run
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.plan import Plan
from alignvid.bench.runs.pools import LocalPool
from alignvid.bench.runs.running import RunResult, run_plan
from alignvid.bench.runs.variants import BASELINE
from alignvid.bench.trials.cost import Cost, cost_of
from alignvid.bench.trials.planning import Maker, Trial, plan_trial
from alignvid.bench.trials.record import FLOW, PROTOCOL, STILLNESS
from alignvid.bench.trials.registration import Registration, register, registered
from alignvid.bench.trials.spec import TrialSpec
from alignvid.errors import InputError
from alignvid.files import folder_for_results

Consent = Callable[[Cost], bool]


@dataclass(frozen=True)
class TrialResult:
    """What a run of a trial did."""

    registration: Registration
    run: RunResult
    measured: Measured | None
    """None where there is no video."""


def run_trial(
    spec: TrialSpec,
    out: str | Path,
    *,
    on_plan: Callable[[Registration], None] = lambda plan: None,
    consent: Consent = lambda cost: True,
    on_run: Callable[[RunResult], None] = lambda result: None,
    on_record: Callable[[VideoRecord], None] = lambda record: None,
) -> TrialResult | None:
    """Do what is missing of a trial; None if nobody consented to its cost, and then nothing is written.

    Args:
        spec: What to run.
        out: The trial's folder, which is a run's folder of the benchmark, too.
        on_plan: Called with the plan before anything is loaded.
        consent: Asked once, before the plan is written down; not where a trial is resumed.
        on_run: Called with how much of it is there.
        on_record: Called after each clip.

    Raises: AlignvidError for what is wrong with all clips: no scenes, an unknown arm, a server that is not there, a
    folder that cannot be written or holds another trial, too little disk.
    """
    trial = plan_trial(spec)
    on_plan(trial.registration)
    return run_planned(trial, out, consent=consent, on_run=on_run, on_record=on_record)


def run_planned(
    trial: Trial,
    out: str | Path,
    *,
    consent: Consent = lambda cost: True,
    on_run: Callable[[RunResult], None] = lambda result: None,
    on_record: Callable[[VideoRecord], None] = lambda record: None,
) -> TrialResult | None:
    """Do what is missing of a planned trial; see `run_trial`."""
    try:
        worker = _begun(trial, Path(out), consent)
    except _NotWanted:
        return None
    pool = LocalPool(lambda: worker or trial.make_worker())
    made = run_plan(trial.plan, out, pool=pool, on_plan=on_run, on_record=on_record)
    return TrialResult(trial.registration, made, measured(Path(out)))


class _NotWanted(Exception):
    """Nobody consented."""


def _begun(trial: Trial, out: Path, consent: Consent) -> Maker | None:
    """Write the plan down, once its cost was said; the worker that timed it, which has loaded the model."""
    with folder_for_results(out) as folder:
        before, worker = registered(folder), None
        if before is None and RunFolder(folder).exists():
            raise InputError(f"{str(out)!r} holds a run that is no trial; give another --out.")
        if before is None:
            worker = trial.make_worker()
            if not consent(_cost(trial.plan, folder, worker)):
                raise _NotWanted
        register(folder, trial.registration)
    return worker


def measured(folder: Path) -> Measured | None:
    """Flow and stillness of the clips that have none yet."""
    run = RunFolder(folder)
    if not any(row.status == "done" for row in run.videos()):
        return None
    return measure_run(run, (FLOW, STILLNESS), protocol=PROTOCOL, sources={}, device="cpu")


def _cost(plan: Plan, folder: Path, worker: Maker) -> Cost:
    """By a clip of the first scene that is denoised for a few steps and thrown away."""
    job = next(job for job in plan.jobs if job.variant.name == BASELINE)
    original = next(sample for sample in plan.data.samples if sample.id == job.sample.id)
    return cost_of(plan, folder, worker.timed(job, plan.data.image_of(original).content))
