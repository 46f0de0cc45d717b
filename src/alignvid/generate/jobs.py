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
from alignvid.files import folder_for_results, found_below, read_lines, sha256_of_file, user_path
from alignvid.generate.choice import choice_of, model_line
from alignvid.generate.device import choose_device
from alignvid.generate.loading import ModelSource, find_model
from alignvid.generate.model import Model, load_model
from alignvid.generate.plan import layout_of
from alignvid.generate.progress import OnProgress, Progress, unwatched
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


def read_jobs(
    path: str | Path, fields: dict[str, Any], *, on_dropped: Callable[[str], None] | None = None
) -> list[Job]:
    """The jobs of a JSON Lines file: id, prompt, and if need be image, negative_prompt and seed on each line.

    Args:
        path: The file; paths of images in it are relative to its folder.
        fields: Fields of the spec that all jobs share.
        on_dropped: Called with a sentence for each line that cannot be read; the others are read. Without it such a
            line is an error.

    Raises: InputError naming file, line and field; if no line can be read, too.
    """
    path = Path(path)
    jobs: dict[str, Job] = {}
    dropped: list[InputError] = []
    lines = _lines(path)
    if lines and lines[0][1].lstrip(b" \t\xef\xbb\xbf").startswith(b"["):
        raise InputError(f"{str(path)!r} holds a list; write one object on each line, without brackets and commas.")
    for number, line in lines:
        try:
            _add(jobs, _job(path, number, line, fields), f"{str(path)!r}, line {number}")
        except InputError as error:
            if on_dropped is None:
                raise
            dropped.append(error)
    if dropped and not jobs:
        raise dropped[0]
    if not jobs:
        raise InputError(
            f'{str(path)!r} holds no job; write lines such as {{"id": "a", "image": "a.png", "prompt": "…"}}.'
        )
    if on_dropped is not None:
        for error in dropped:
            on_dropped(str(error))
    return list(jobs.values())


def _add(jobs: dict[str, Job], job: Job, place: str) -> None:
    """To some file systems, upper and lower case are one."""
    if jobs.setdefault(job.id.lower(), job) is not job:
        raise InputError(f"{place}: the id {job.id!r} is there twice; give each job its own id.")


def run_jobs(
    jobs: list[Job],
    out: str | Path,
    *,
    compare: bool = False,
    on_result: Callable[[JobResult], None] = lambda result: None,
    strict: bool = False,
    on_choice: Callable[[dict[str, str]], None] = lambda lines: None,
    on_progress: OnProgress = unwatched,
) -> list[JobResult]:
    """Run every job in a folder of its id below `out`; a job that fails does not stop the others.

    A job whose folder holds its finished record is not run again. After a Ctrl-C finished ones are there, and the one
    that was running is not.

    Args:
        jobs: From `read_jobs`; they share one model.
        out: Folder of all; made if it is missing.
        compare: As for `generate`.
        on_result: Called after each job.
        on_choice: Called once before the model is loaded, if any job is to run, with the model, preset and recipe of
            all: a text under each heading.
        on_progress: As for `generate`.
        strict: As for `generate`; a job in which the gain does not act as the recipe says fails.

    Raises: AlignvidError for what is wrong with all jobs: the model, the recipe, the device or the folder.
    """
    model: Model | None = None
    results = []
    with folder_for_results(Path(out)) as folder:
        for job in jobs:
            result = finished_before(job, folder / job.id, compare)
            if result is None:
                model = model or _load(job.spec, on_choice, on_progress)
                result = _run(job, folder / job.id, model, compare, strict, on_progress)
            results.append(result)
            on_result(result)
    return results


def _load(spec: GenerationSpec, on_choice: Callable[[dict[str, str]], None], on_progress: OnProgress) -> Model:
    source = say_choice(spec, on_choice)
    on_progress(Progress("loading"))
    return load_model(source, spec, show_progress=False)


def say_choice(spec: GenerationSpec, on_choice: Callable[[dict[str, str]], None]) -> ModelSource:
    """Say the model and the recipe of all jobs; one that does not fit is wrong for all, so it is said here and at once.

    Raises: AlignvidError if model, recipe or device cannot be.
    """
    source = find_model(spec.model)
    choose_device(spec.device, spec.dtype, spec.offload)
    model = sketch(source)
    choice = choice_of(spec, model, layout_of(spec, model).layout.summary, None)
    on_choice({**model_line(source), **choice.lines()})
    return source


def _run(job: Job, folder: Path, model: Model, compare: bool, strict: bool, on_progress: OnProgress) -> JobResult:
    try:
        record = generate(job.spec, folder, compare=compare, model=model, strict=strict, on_progress=on_progress).record
        return JobResult(job.id, job.spec, folder, record, None, was_finished=False)
    except AlignvidError as error:
        return JobResult(job.id, job.spec, folder, None, str(error), was_finished=False)
    except Exception as error:  # the outer loop: one job's crash must not lose the others
        pass_on_interrupt(error)
        logger.exception("job %s failed", job.id)
        return JobResult(job.id, job.spec, folder, None, f"{type(error).__name__}: {error}", was_finished=False)


def finished_before(job: Job, folder: Path, compare: bool) -> JobResult | None:
    """The result of a job whose folder holds its whole record from an earlier run; else None."""
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
