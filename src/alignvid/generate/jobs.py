"""Many generations with one model: a file of jobs, each in a folder of its own, finished ones skipped."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.errors import AlignvidError, InputError, pass_on_interrupt
from alignvid.files import sha256_of_file, writable_folder
from alignvid.generate.loading import find_model
from alignvid.generate.model import Model, load_model
from alignvid.generate.record import Record, is_finished, read_record
from alignvid.generate.run import ALIGNVID, BASELINE, SIDE_BY_SIDE, generate
from alignvid.generate.sketch import resolve, sketch
from alignvid.generate.spec import GenerationSpec

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELDS = {"id": str, "prompt": str, "image": str, "negative_prompt": str, "seed": int}
_REQUIRED = ("id", "prompt")


@dataclass(frozen=True)
class Job:
    """One line of a jobs file."""

    id: str
    """Unique in its file; the name of the job's folder."""
    spec: GenerationSpec
    """The spec of the command line with this line's prompt and image."""


@dataclass(frozen=True)
class JobResult:
    """What became of a job: a record, or the reason why there is none."""

    id: str
    spec: GenerationSpec
    folder: Path
    record: Record | None
    error: str | None
    was_finished: bool
    """Whether it was there from an earlier run."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "id": self.id,
            "folder": str(self.folder),
            "error": self.error,
            "was_finished": self.was_finished,
            "record": self.record.to_dict() if self.record else None,
        }


def read_jobs(path: str | Path, fields: dict[str, Any]) -> list[Job]:
    """The jobs of a JSON Lines file: id, prompt, and if need be image, negative_prompt and seed on each line.

    Args:
        path: The file; paths of images in it are relative to its folder.
        fields: Fields of the spec that all jobs share.

    Raises: InputError naming file, line and field.
    """
    path = Path(path)
    jobs = [_job(path, number, line, fields) for number, line in _lines(path)]
    if not jobs:
        raise InputError(
            f'{str(path)!r} holds no job; write lines such as {{"id": "a", "image": "a.png", "prompt": "…"}}.'
        )
    seen: dict[str, int] = {}
    for number, job in enumerate(jobs, start=1):
        if seen.setdefault(job.id.lower(), number) != number:  # file systems may not tell upper from lower case
            raise InputError(f"{str(path)!r}: the id {job.id!r} is there twice; give every job an id of its own.")
    return jobs


def run_jobs(
    jobs: list[Job],
    out: str | Path,
    *,
    compare: bool = False,
    show_progress: bool = False,
    on_result: Callable[[JobResult], None] = lambda result: None,
) -> list[JobResult]:
    """Run every job in a folder of its id below `out`; a job that fails does not stop the others.

    A job whose folder holds its finished record is not run again.

    Args:
        jobs: From `read_jobs`; they share one model.
        out: Folder of all; made if it is missing.
        compare: As for `generate`.
        show_progress: As for `generate`.
        on_result: Called after each job.

    Raises: AlignvidError for what is wrong with all jobs: the model, the recipe, the device or the folder.
    """
    out = writable_folder(Path(out))
    model: Model | None = None
    results = []
    for job in jobs:
        result = _finished(job, out / job.id, compare)
        if result is None:
            model = model or _load(job.spec, show_progress)
            result = _run(job, out / job.id, model, compare)
        results.append(result)
        on_result(result)
    return results


def _load(spec: GenerationSpec, show_progress: bool) -> Model:
    """The model of all jobs; a recipe that does not fit it is wrong for all of them, so it is told here and at once."""
    source = find_model(spec.model)
    resolve(sketch(source), spec.preset, spec.recipe_overrides)
    return load_model(source, spec, show_progress=show_progress)


def _run(job: Job, folder: Path, model: Model, compare: bool) -> JobResult:
    try:
        record = generate(job.spec, folder, compare=compare, model=model).record
        return JobResult(job.id, job.spec, folder, record, None, was_finished=False)
    except AlignvidError as error:
        return JobResult(job.id, job.spec, folder, None, str(error), was_finished=False)
    except Exception as error:  # the outer loop: one job's crash must not lose the others
        pass_on_interrupt(error)
        logger.exception("job %s failed", job.id)
        return JobResult(job.id, job.spec, folder, None, f"{type(error).__name__}: {error}", was_finished=False)


def _finished(job: Job, folder: Path, compare: bool) -> JobResult | None:
    try:
        digest = sha256_of_file(Path(job.spec.image)) if job.spec.image else None
    except OSError:
        return None
    roles = {BASELINE, ALIGNVID, SIDE_BY_SIDE} if compare else {ALIGNVID}
    if not is_finished(folder, job.spec.to_dict(), digest, roles):
        return None
    return JobResult(job.id, job.spec, folder, read_record(folder), None, was_finished=True)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{str(path)!r}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"The jobs file {str(path)!r} cannot be read: {error}; give a JSON Lines file.") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _job(path: Path, number: int, line: str, fields: dict[str, Any]) -> Job:
    place = f"{str(path)!r}, line {number}"
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error}); write one object on each line.") from error
    return job_of(place, path.parent, values, fields)


def job_of(place: str, folder: Path, values: Any, fields: dict[str, Any]) -> Job:
    """The job that is written as a dict.

    Args:
        place: Where it is written, for messages.
        folder: Paths of images are relative to it.
        values: What was read: id, prompt, and if need be image, negative_prompt and seed.
        fields: Fields of the spec that all jobs share.

    Raises: InputError naming place and field.
    """
    _check_fields(place, values)
    if not _ID.fullmatch(values["id"]):
        raise InputError(
            f"{place}: the field 'id' is {values['id']!r}; it names a folder, so use letters, digits, '.', '_' and '-'."
        )
    job_fields = {name: value for name, value in values.items() if name != "id"}
    if "image" in job_fields:
        job_fields["image"] = str(folder / job_fields["image"])
    try:
        return Job(values["id"], GenerationSpec(**{**fields, **job_fields}))
    except AlignvidError as error:
        raise InputError(f"{place}: {error}") from error


def _check_fields(place: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{place}: {type(values).__name__} instead of an object; write {{…}} with id and prompt.")
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise InputError(f"{place}: the field {unknown[0]!r} is unknown; the fields are {', '.join(_FIELDS)}.")
    for name, kind in _FIELDS.items():
        if name in _REQUIRED and name not in values:
            raise InputError(f"{place}: the field {name!r} is missing; every job needs {' and '.join(_REQUIRED)}.")
        if name in values and (not isinstance(values[name], kind) or isinstance(values[name], bool)):
            raise InputError(f"{place}: the field {name!r} is {values[name]!r}; it must be a {kind.__name__}.")
