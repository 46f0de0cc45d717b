"""Many generations with one model: a file of jobs, each in its own folder, finished ones skipped."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from alignvid.errors import AlignvidError, InputError, UnreadableFile, pass_on_interrupt
from alignvid.fields import json_values, read
from alignvid.files import found_below, read_lines, sha256_of_file, user_path, writable_folder
from alignvid.generate.loading import find_model
from alignvid.generate.model import Model, load_model
from alignvid.generate.plan import recipe_of
from alignvid.generate.record import Record, is_finished, read_record
from alignvid.generate.run import ALIGNVID, BASELINE, SIDE_BY_SIDE, generate
from alignvid.generate.sketch import sketch
from alignvid.generate.spec import GenerationSpec

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PAGE_FILE = "index.html"
"""Of all jobs, beside their folders."""


class _Written(TypedDict):
    """A line of a jobs file."""

    id: str
    prompt: str
    image: NotRequired[str]
    negative_prompt: NotRequired[str]
    seed: NotRequired[int]


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
        if seen.setdefault(job.id.lower(), number) != number:  # to some file systems, upper and lower case are one
            raise InputError(f"{str(path)!r}: the id {job.id!r} is there twice; give each job its own id.")
    return jobs


def run_jobs(
    jobs: list[Job],
    out: str | Path,
    *,
    compare: bool = False,
    show_progress: bool = False,
    on_result: Callable[[JobResult], None] = lambda result: None,
    strict: bool = False,
) -> list[JobResult]:
    """Run every job in a folder of its id below `out`; a job that fails does not stop the others.

    A job whose folder holds its finished record is not run again.

    Args:
        jobs: From `read_jobs`; they share one model.
        out: Folder of all; made if it is missing.
        compare: As for `generate`.
        show_progress: As for `generate`.
        on_result: Called after each job.
        strict: As for `generate`; a job in which the gain does not act as the recipe says fails.

    Raises: AlignvidError for what is wrong with all jobs: the model, the recipe, the device or the folder.
    """
    out = writable_folder(Path(out))
    model: Model | None = None
    results = []
    for job in jobs:
        result = _finished(job, out / job.id, compare)
        if result is None:
            model = model or _load(job.spec, show_progress)
            result = _run(job, out / job.id, model, compare, strict)
        results.append(result)
        on_result(result)
    return results


def _load(spec: GenerationSpec, show_progress: bool) -> Model:
    """The model of all jobs; a recipe that does not fit it is wrong for all of them, so it is said here and at once."""
    source = find_model(spec.model)
    recipe_of(spec, sketch(source))
    return load_model(source, spec, show_progress=show_progress)


def _run(job: Job, folder: Path, model: Model, compare: bool, strict: bool) -> JobResult:
    try:
        record = generate(job.spec, folder, compare=compare, model=model, strict=strict).record
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
    except UnreadableFile:
        return None
    roles = {BASELINE, ALIGNVID, SIDE_BY_SIDE} if compare else {ALIGNVID}
    if not is_finished(folder, job.spec.to_dict(), digest, roles):
        return None
    return JobResult(job.id, job.spec, folder, read_record(folder), None, was_finished=True)


def _lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        return list(read_lines(path))
    except UnreadableFile as error:
        raise InputError(f"The jobs file {str(error).rstrip('.')}; give a JSON Lines file.") from error


def _job(path: Path, number: int, line: bytes, fields: dict[str, Any]) -> Job:
    place = f"{str(path)!r}, line {number}"
    try:
        values = json_values(line, error=InputError)
    except InputError as error:
        raise InputError(f"{place}: not JSON ({error}); write one object on each line, as UTF-8.") from error
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
    written = read(_Written, values, what=place, error=InputError)
    id, others = written["id"], {name: value for name, value in written.items() if name != "id"}
    if not _ID.fullmatch(id):
        raise InputError(
            f"{place}: the field 'id' is {id!r}; it names a folder, so use letters, digits, '.', '_' and '-'."
        )
    if id.lower() == PAGE_FILE:
        raise InputError(f"{place}: the field 'id' is {id!r}, which is the name of the page; choose another.")
    if "image" in written:
        others["image"] = str(_image(folder, written["image"]))
    try:
        return Job(id, GenerationSpec(**{**fields, **others}))
    except AlignvidError as error:
        raise InputError(f"{place}: {error}") from error


def _image(folder: Path, name: str) -> Path:
    """The file of that name; one that cannot be is found out when its job runs, so that the other jobs run, too."""
    with contextlib.suppress(InputError):
        name = str(user_path(name))
    return found_below(folder, name)
