"""From a spec to a plan of the benchmark and its registration, before a weight is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from alignvid.bench.comfyui.client import ComfyClient
from alignvid.bench.comfyui.worker import ComfyWorker
from alignvid.bench.comfyui.workflow import Workflow, read_workflow
from alignvid.bench.data.samples import Sample
from alignvid.bench.runs.jobs import Job
from alignvid.bench.runs.plan import Plan, assemble, make_plan
from alignvid.bench.runs.variants import BASELINE, STILL
from alignvid.bench.runs.worker import PipelineWorker, Timed
from alignvid.bench.trials.arms import Arms, comfyui_arms, diffusers_arms
from alignvid.bench.trials.criteria import PRIMARY, criteria
from alignvid.bench.trials.registration import Registration, SceneFacts
from alignvid.bench.trials.spec import TrialSpec
from alignvid.errors import InputError
from alignvid.generate.loading import find_model
from alignvid.generate.plan import model_defaults, pipeline_class_of
from alignvid.generate.sketch import sketch


@runtime_checkable
class Maker(Protocol):
    """A worker that can say what a clip costs, too."""

    def run(self, task: Any, images: Sequence[bytes]) -> list[Any]:
        """As any worker of the benchmark."""
        ...

    def timed(self, job: Job, image: bytes) -> Timed:
        """The cost of a clip."""
        ...


@dataclass(frozen=True)
class Trial:
    """What will run."""

    plan: Plan
    registration: Registration
    make_worker: Callable[[], Maker]


def plan_trial(spec: TrialSpec) -> Trial:
    """Check all that can be checked without the weights, or without asking ComfyUI for a clip.

    Raises: AlignvidError naming what is wrong: no scenes, an unknown arm, a server that is not there.
    """
    return _in_diffusers(spec) if spec.comfyui is None else _in_comfyui(spec)


def _in_diffusers(spec: TrialSpec) -> Trial:
    source = find_model(spec.model)
    guidance = spec.guidance
    if guidance is None:
        guidance = model_defaults(source, pipeline_class_of(source)).guidance
    arms = diffusers_arms(spec.arms, sketch(source), guidance)
    plan = make_plan(spec.bench(tuple(arms.texts.values())))
    bench = replace(plan.spec, dtype=plan.info.settings["dtype"])
    name = source.name if source.is_miniature or not source.is_local else Path(source.location).resolve().name
    return Trial(plan, _registration(spec, plan, arms, "diffusers", name), partial(PipelineWorker, bench))


def _in_comfyui(spec: TrialSpec) -> Trial:
    workflow = read_workflow(str(spec.workflow))
    _check_numbers(spec, workflow)
    client = ComfyClient(str(spec.comfyui))
    defaults = workflow.defaults()
    arms = comfyui_arms(spec.arms, workflow, defaults.guidance if spec.guidance is None else spec.guidance)
    worker = ComfyWorker(client, workflow)
    bench = spec.bench(tuple(arms.texts), model=workflow.name)
    shared = {**bench.shared_settings, "dtype": "as in the workflow"}
    plan = assemble(
        bench,
        arms.variants,
        defaults=defaults,
        model={"name": workflow.name, "pipeline": "ComfyUI", "revision": None, "digest": workflow.digest},
        shared=shared,
    )
    return Trial(plan, _registration(spec, plan, arms, "comfyui", workflow.name), lambda: worker)


def _check_numbers(spec: TrialSpec, workflow: Workflow) -> None:
    """A number that the workflow asks for must be given, and one that it has of its own must not."""
    for name in ("steps", "guidance", "width", "height", "frames", "fps"):
        flag = "--size" if name in ("width", "height") else f"--{name}"
        is_given, is_asked = getattr(spec, name) is not None, name in workflow.placeholders
        if is_asked and not is_given:
            raise InputError(f"The workflow has {{{{{name}}}}}; say it with {flag}, or write the number into the file.")
        if is_given and not is_asked and name in ("steps", "guidance"):
            raise InputError(
                f"The workflow has its own {name}; write {{{{{name}}}}} in its place, or leave {flag} out."
            )


def _registration(spec: TrialSpec, plan: Plan, arms: Arms, host: str, model_name: str) -> Registration:
    """`model_name`: a folder's without the path to it, which is nobody's business."""
    if not plan.data.has_images or plan.jobs[0].settings.frames is None:
        raise InputError(
            "A trial shows clips beside the picture that they begin from; give such data and such a model."
        )
    if len(plan.samples) < 2:
        raise InputError(f"{len(plan.samples)} scene is no trial; give data with 2 or more that can be used.")
    refused = {row.sample: row.reason for row in plan.unusable}
    if wanted := [name for name in refused if not name.startswith("row ")]:
        raise InputError(
            f"Scene {wanted[0]!r} cannot be used: {refused[wanted[0]]} Mend it, or leave it out of the data."
        )
    names = [variant.name for variant in arms.variants]
    others = [name for name in names if name not in (STILL, BASELINE)]
    if not others:
        raise InputError(f"No arm is left to compare: {_reasons(arms)}; name others with --arms.")
    settings = next(job.settings for job in plan.jobs if job.variant.name == BASELINE)
    decided = {name: getattr(settings, name) for name in ("steps", "guidance", "frames", "fps")}
    return Registration(
        criteria=criteria(),
        asked=[name.strip() for name in spec.arms],
        scenes=[SceneFacts(id=sample.id, sha256=_scene_digest(plan, sample)) for sample in plan.samples],
        seeds=list(spec.seeds),
        host=host,
        model={**plan.info.model, "name": model_name},
        settings={**decided, **{name: plan.info.settings[name] for name in ("width", "height", "dtype")}},
        variants=[variant.to_dict() for variant in arms.variants],
        left_out=dict(arms.left_out),
        primary=next((name for name in PRIMARY if name in names), others[0]),
    )


def _scene_digest(plan: Plan, sample: Sample) -> str:
    """Of what is asked, and of the picture as it is; not of where it lies."""
    original = next(one for one in plan.data.samples if one.id == sample.id)
    picture = hashlib.sha256(plan.data.image_of(original).content).hexdigest()
    row = {**sample.to_dict(), "image_path": None, "image": picture}
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _reasons(arms: Arms) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in arms.left_out.items())
