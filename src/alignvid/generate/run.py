"""Run a plan: the video, with `compare` the baseline at the same seed, and the record beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from alignvid.analysis.trace import Trace
from alignvid.attachment.attach import attach
from alignvid.attachment.attachment import Attachment
from alignvid.errors import InputError
from alignvid.files import folder_for_results, sha256_of_bytes, write_together
from alignvid.generate.call import frames_of, token_limit
from alignvid.generate.model import Model, load_model
from alignvid.generate.observing import ObservationSpec, check_words, observing, trace_facts, trace_files
from alignvid.generate.plan import Plan, plan, warn_of
from alignvid.generate.progress import OnProgress, Progress, steps_reported, unwatched
from alignvid.generate.prompts import unread_tokens_note
from alignvid.generate.record import (
    RECORD_FILE,
    AttachmentFacts,
    ImageFacts,
    MachineFacts,
    OutputFacts,
    Record,
    SettingsFacts,
    SpecFacts,
    machine_facts,
    now,
    package_versions,
    read_record,
)
from alignvid.generate.spec import IN_A_RECIPE, GenerationSpec
from alignvid.media.images import png_bytes, read_image
from alignvid.media.videos import Frames, encode_video, side_by_side
from alignvid.recipe import Recipe

BASELINE, ALIGNVID, SIDE_BY_SIDE = "baseline", "alignvid", "side_by_side"
REFERENCE_FILE = "reference.png"

Companions = Callable[[Record], Mapping[str, bytes]]
"""Further files, made from a record."""


@dataclass(frozen=True)
class Generation:
    """A finished generation."""

    folder: Path
    record: Record
    frames: Mapping[str, Frames]
    """By role, as the model gave them, before the video encoder."""


class _Run(NamedTuple):
    frames: Frames
    trace: Trace | None


@dataclass(frozen=True)
class _Rendering:
    frames: dict[str, Frames]
    attachment: Attachment
    timings: dict[str, float]
    traces: dict[str, Trace]
    proof: dict[str, Any]


def generate(
    spec: GenerationSpec,
    out: str | Path,
    *,
    compare: bool = False,
    model: Model | None = None,
    recipe: Recipe | None = None,
    companions: Companions | None = None,
    observation: ObservationSpec | None = None,
    strict: bool = False,
    proof: bool = False,
    on_plan: Callable[[Plan], None] = lambda planned: None,
    on_progress: OnProgress = unwatched,
) -> Generation:
    """Make the video of a spec in the folder `out`, with a record that can repeat it.

    Args:
        spec: What to make.
        out: Folder for the results; made if it is missing. Files appear in it when all of them are complete.
        compare: Also make the video without AlignVid at the same seed, and a clip of both side by side.
        model: A model loaded before, to be used again; it must be the spec's.
        recipe: A recipe to be used in place of the spec's preset.
        companions: Makes further files from the record, by name, that appear together with it, such as a page.
        observation: Record what attention does in every run, as a trace beside its video; None records nothing.
        strict: Raise a ContractError where the gain does not act as the recipe says; else that is warned of, and the
            record keeps it among its notes.
        proof: Measure what the gain changes, which costs about one forward; the record's attachment holds it.
        on_plan: Called once with what will run, before the model is loaded.
        on_progress: Called when a stage begins, and after each step.

    Raises: AlignvidError before a model is loaded, where that can be known so early. Where it does not end, by an error
    or a Ctrl-C, the folder is left as it was, or not there.
    """
    planned = plan(spec, source=model.source if model else None, recipe=recipe)
    with folder_for_results(Path(out)) as folder:
        on_plan(planned)
        if model is None:
            on_progress(Progress("loading"))
            model = load_model(planned.source, spec, show_progress=False)
        check_words(model.pipeline, spec.prompt, observation)
        notes = [*planned.notes, *_token_notes(planned, model)]
        warn_of(notes)
        rendering = _render(planned, model, compare, observation, strict, proof, on_progress)
        on_progress(Progress("encoding"))
        files = {**_encode(rendering.frames, planned), **trace_files(rendering.traces)}
        record = _record(planned, model, rendering, files, notes)
        further = companions(record) if companions else {}
        write_together(folder, {**files, **further, RECORD_FILE: record.to_json()})
    return Generation(folder, record, rendering.frames)


def repeat(
    record_path: str | Path,
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    compare: bool = False,
    model: Model | None = None,
    companions: Companions | None = None,
    observation: ObservationSpec | None = None,
    strict: bool = False,
    on_plan: Callable[[Plan], None] = lambda planned: None,
    on_progress: OnProgress = unwatched,
) -> Generation:
    """Make the video of a record again, from the image beside it and the recipe in it.

    Args:
        record_path: A record.json, or the folder that holds it.
        out: Folder for the results.
        changes: Fields of the spec to change, such as the seed.
        compare: As for `generate`.
        model: As for `generate`.
        companions: As for `generate`.
        observation: As for `generate`.
        strict: As for `generate`.
        on_plan: As for `generate`.
        on_progress: As for `generate`.

    Raises: InputError if the record or its image is missing or was changed.
    """
    path = Path(record_path)
    record = read_record(path)
    folder = path if path.is_dir() else path.parent
    changes = dict(changes or {})
    spec = _changed(_recorded_spec(record, folder), changes)
    is_other = any(changes.get(name) is not None for name in ("preset", "recipe", "follow"))
    recipe = None if is_other else _recorded_recipe(record)
    further = {"companions": companions, "observation": observation, "on_plan": on_plan, "on_progress": on_progress}
    return generate(spec, out, compare=compare, model=model, recipe=recipe, strict=strict, **further)


def _recorded_recipe(record: Record) -> Recipe:
    """What was attached, without the emphasis that the spec asks for: it comes from there again."""
    recipe = Recipe.from_dict(record.recipe)
    return replace(recipe, then=recipe.then[:-1]) if record.spec.get("emphasise") else recipe


def _recorded_spec(record: Record, folder: Path) -> GenerationSpec:
    """The spec with every open number as it was decided then, and the image as the model got it."""
    spec = GenerationSpec.from_dict({**record.spec, **record.settings, "dtype": record.machine["dtype"]})
    if record.image is None:
        return spec
    file = folder / record.image["file"]
    if read_image(file).pixels_sha256 != record.image["pixels_sha256"]:
        raise InputError(f"The image {str(file)!r} is not the one of the record; put the original back.")
    return replace(spec, image=str(file))


def _changed(spec: GenerationSpec, changes: Mapping[str, Any]) -> GenerationSpec:
    """A recipe as text takes the place of a preset and what changes it, and the other way round."""
    given = dict(changes)
    if any(given.get(name) is not None for name in IN_A_RECIPE):
        given.setdefault("recipe", None)
    elif given.get("recipe") is not None:
        given |= dict.fromkeys(IN_A_RECIPE)
    if given.get("follow") is not None:
        given = dict.fromkeys(("preset", "gamma", "streams")) | given
    return replace(spec, **given)


def _render(
    planned: Plan,
    model: Model,
    compare: bool,
    observation: ObservationSpec | None,
    strict: bool,
    proof: bool,
    report: OnProgress,
) -> _Rendering:
    runs, timings = {}, {"load_s": model.load_s}
    if compare:
        runs[BASELINE], timings["baseline_s"] = _run(planned, model, BASELINE, observation, report)
    chosen, overrides = planned.recipe or planned.spec.preset, planned.spec.overrides_of(planned.recipe)
    with attach(model.pipeline, chosen, **overrides, strict=strict, proof=proof) as attachment:
        runs[ALIGNVID], timings["alignvid_s"] = _run(planned, model, ALIGNVID, observation, report)
        proved = {"proof": attachment.proof().to_dict()} if proof and attachment.active_forward_count else {}
    frames = {role: run.frames for role, run in runs.items()}
    if compare:
        frames[SIDE_BY_SIDE] = side_by_side(frames[BASELINE], frames[ALIGNVID])
    traces = {role: run.trace for role, run in runs.items() if run.trace is not None}
    return _Rendering(frames, attachment, timings, traces, proved)


def _run(
    planned: Plan, model: Model, role: str, observation: ObservationSpec | None, report: OnProgress
) -> tuple[_Run, float]:
    import torch

    generator = torch.Generator("cpu").manual_seed(planned.spec.seed)
    begin = time.perf_counter()
    with torch.no_grad(), model.thread_limit():
        with (
            observing(model.pipeline, planned.spec.prompt, observation) as trace,
            steps_reported(model.pipeline, role, planned.settings.steps, report),
        ):
            output = model.pipeline(**planned.arguments, generator=generator)
        frames = frames_of(output)
    return _Run(frames, trace), time.perf_counter() - begin


def _encode(frames: Mapping[str, Frames], planned: Plan) -> dict[str, bytes]:
    """Every file by name; a pipeline without a length gives images."""
    files = {} if planned.image is None else {REFERENCE_FILE: png_bytes(planned.image)}
    for role, clip in frames.items():
        if planned.settings.frames is None:
            files[f"{role}.png"] = png_bytes(Image.fromarray(clip[0]))
        else:
            files[f"{role}.mp4"] = encode_video(clip, planned.settings.fps)
    return files


def _record(planned: Plan, model: Model, rendering: _Rendering, files: Mapping[str, bytes], notes: list[str]) -> Record:
    return Record(
        spec=SpecFacts(**planned.spec.to_dict()),
        settings=SettingsFacts(**planned.settings.to_dict()),
        model=model.facts(),
        recipe=rendering.attachment.recipe.to_dict(),
        attachment=AttachmentFacts(**rendering.attachment.to_dict(), **rendering.proof),
        image=_image_facts(planned),
        outputs={role: _output_facts(role, clip, files) for role, clip in rendering.frames.items()},
        machine=MachineFacts(**{**model.device.to_dict(), **machine_facts(), "threads": model.threads}),
        timings={name: round(seconds, 3) for name, seconds in rendering.timings.items()},
        notes=[*notes, *rendering.attachment.warnings],
        versions=package_versions(),
        created=now(),
        traces=trace_facts(rendering.traces, files),
    )


def _image_facts(planned: Plan) -> ImageFacts | None:
    if planned.reference is None or planned.image is None:
        return None
    given = replace(planned.reference, pixels=planned.image)
    return {
        "sha256": planned.reference.sha256,
        "size": list(planned.reference.pixels.size),
        "file": REFERENCE_FILE,
        "pixels_sha256": given.pixels_sha256,
    }


def _output_facts(role: str, clip: Frames, files: Mapping[str, bytes]) -> OutputFacts:
    name = next(name for name in files if Path(name).stem == role and Path(name).suffix != ".trace")
    length, height, width, _ = clip.shape
    return {
        "file": name,
        "sha256": sha256_of_bytes(files[name]),
        "frames_sha256": sha256_of_bytes(np.ascontiguousarray(clip).tobytes()),
        "frames": length,
        "width": width,
        "height": height,
    }


def _token_notes(planned: Plan, model: Model) -> list[str]:
    tokenizer, limit = getattr(model.pipeline, "tokenizer", None), token_limit(type(model.pipeline))
    if tokenizer is None or limit is None:
        return []
    note = unread_tokens_note(planned.spec.prompt, tokenizer, limit)
    return [note] if note else []
