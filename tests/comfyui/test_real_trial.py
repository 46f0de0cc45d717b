"""A trial through a real ComfyUI server on loopback, with the miniature's workflow, to its record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import trial_stub
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.trials.blind import draw_pairs, read_answers
from alignvid.bench.trials.merging import outcomes_by_model
from alignvid.bench.trials.planning import plan_trial
from alignvid.bench.trials.record import record_of
from alignvid.bench.trials.running import run_planned
from alignvid.bench.trials.spec import TrialSpec
from comfyui_graph import miniature_graph
from comfyui_server import Server, running

CHECKOUT = os.environ.get("ALIGNVID_COMFYUI", "core")
pytestmark = pytest.mark.skipif(CHECKOUT == "core", reason="make test-comfyui COMFYUI=path of a checkout")
ARMS = ("still", "baseline", "released", "generic", "follow-0.4", "guidance")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(CHECKOUT), tmp_path_factory.mktemp("comfyui") / "base") as found:
        yield found


def workflow(folder: Path) -> str:
    """The miniature's graph with placeholders, as a user would write them into an exported file."""
    graph = miniature_graph("{{image}}", "{{prompt}}", seed="{{seed}}", steps="{{steps}}", cfg="{{guidance}}")
    graph["7"]["inputs"] = {"model": ["1", 0], "preset": "auto"}
    (folder / "miniature-api.json").write_text(json.dumps(graph))
    return str(folder / "miniature-api.json")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("steps", [4, 10])
def test_a_trial_in_comfyui_ends_in_a_record_in_which_every_arm_acted(
    server: Server, tmp_path: Path, steps: int
) -> None:
    spec = TrialSpec(
        data="omitshapes", scenes=2, seeds=(0, 1), arms=ARMS, steps=steps, guidance=1.5, fps=8.0,
        comfyui=server.url, workflow=workflow(tmp_path),
    )  # fmt: skip
    said = []
    result = run_planned(plan_trial(spec), tmp_path / "out", consent=lambda cost: said.append(cost) or True)
    assert result is not None and not result.run.failed and result.run.made == 2 * 2 * len(ARMS)
    assert said[0].step_s > 0 and said[0].hours > 0

    plan, folder = result.registration, RunFolder(result.run.folder)
    answers = trial_stub.answered(result, tmp_path / "answers.json")
    record = record_of(plan, folder, read_answers([answers], plan, draw_pairs(plan, folder)))
    (model,) = outcomes_by_model([record])
    arms = {arm.arm: arm for arm in model.arms}
    assert {name: (arm.acted, arm.made) for name, arm in arms.items() if name != "guidance"} == {
        "released": (4, 4),
        "generic": (4, 4),
        "follow-0.4": (4, 4),
    }
    assert arms["released"].preset.startswith("miniature") and arms["generic"].preset.startswith("generic")
    assert arms["guidance"].preset == "" and all(arm.time_ratio for arm in arms.values())
    baseline = {clip["sha256"] for clip in record.clips if clip["arm"] == "baseline"}
    assert not baseline & {clip["sha256"] for clip in record.clips if clip["arm"] != "baseline"}
    print(json.dumps({name: (arm.time_ratio, arm.more_bytes) for name, arm in arms.items()}))
