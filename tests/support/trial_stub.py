"""A trial without a model: 12 scenes, clips of noise, a proof for each; and answers as its page saves them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.worker import Timed
from alignvid.bench.trials.blind import draw_pairs, page_digest
from alignvid.bench.trials.planning import Trial, plan_trial
from alignvid.bench.trials.running import TrialResult, run_planned
from alignvid.bench.trials.spec import TrialSpec
from bench_stub import StubWorker

ARMS = ("still", "baseline", "generic", "follow-0.4")


@dataclass
class TimedStub(StubWorker):
    silent: frozenset[str] = frozenset()
    """Arms that act in no clip."""

    def run(self, task, images):
        return [made._replace(record=self._proved(made.record)) for made in super().run(task, images)]

    def timed(self, job, image):
        return Timed(0.5, 1.0, 1 << 30, 1000)

    def _proved(self, record):
        if record.status == "failed" or record.variant in ("still", "baseline"):
            return replace(record, seconds=2.0, peak_bytes=1000)
        acted = 0 if record.variant in self.silent else 6
        proof = {"name": "made", "sites": 6, "forwards": 4, "active_forwards": 2, "acted": acted, "warnings": []}
        return replace(record, seconds=2.1, peak_bytes=1200, proof=proof)


def planned(data: Path, log: Path, *, arms=ARMS, scenes=12, seeds=(0,), **behaviour) -> Trial:
    spec = TrialSpec(data=str(data), arms=arms, scenes=scenes, seeds=seeds)
    return replace(plan_trial(spec), make_worker=lambda: TimedStub(log, **behaviour))


def run(trial: Trial, out: Path) -> TrialResult:
    result = run_planned(trial, out)
    assert result is not None
    return result


def answered(result: TrialResult, file: Path, follows=lambda pair: 1, apart=lambda pair: 0, page=None) -> Path:
    """A file of answers in which each pair's gains are what the functions say."""

    def side(pair, gain):
        return "same" if gain == 0 else "left" if (gain > 0) is pair.arm_is_left else "right"

    pairs = draw_pairs(result.registration, RunFolder(result.run.folder))
    rows = [{"pair": p.number, "follows": side(p, follows(p)), "apart": side(p, apart(p))} for p in pairs]
    page = page or page_digest(result.registration, pairs)
    file.write_text(json.dumps({"schema_version": 1, "page": page, "answers": rows}))
    return file
