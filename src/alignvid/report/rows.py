"""Rows of the page, made from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from alignvid.files import write_together
from alignvid.report.page import PAGE_FILE, Clip, Count, Link, Page, Row, Verdict, render_page

if TYPE_CHECKING:
    from alignvid.generate import JobResult
    from alignvid.generate.record import Record

ATTENTION_PAGE = "attention.html"
LABELS = {"baseline": "baseline", "alignvid": "AlignVid"}
_SIDE_BY_SIDE = "side_by_side"


def row_of_record(
    record: Record,
    *,
    id: str,
    folder: str = "",
    verdicts: Mapping[str, tuple[Verdict, ...]] | None = None,
    links: tuple[Link, ...] = (),
) -> Row:
    """The row of a finished generation.

    Args:
        record: Its record.
        id: Its name on the page.
        folder: Where its files lie, relative to the page.
        verdicts: Of its clips, by role.
        links: Beside its controls. The video with both halves is always there, to be kept: to play it would show
            everything twice.
    """
    place = PurePosixPath(folder)
    clips = []
    if record.image is not None:
        size = record.settings["width"], record.settings["height"]
        clips.append(Clip("reference", str(place / record.image["file"]), *size, is_reference=True))
    for role in (role for role in LABELS if role in record.outputs):
        output = record.outputs[role]
        file, size = str(place / output["file"]), (output["width"], output["height"])
        clips.append(Clip(LABELS[role], file, *size, verdicts=(verdicts or {}).get(role, ())))
    if _SIDE_BY_SIDE in record.outputs:
        kept = str(place / record.outputs[_SIDE_BY_SIDE]["file"])
        links = (*links, Link("Download side by side", kept, is_download=True))
    return Row(
        id=id,
        prompt=record.spec["prompt"],
        clips=tuple(clips),
        fps=record.settings["fps"],
        facts=_facts(record),
        notes=tuple(record.notes),
        record_file=str(place / "record.json"),
        links=links,
    )


def comparison_files(record: Record, links: tuple[Link, ...] = ()) -> dict[str, bytes]:
    """The page of one generation, to be written beside its record."""
    lead = f"{record.model['name']}, seed {record.spec['seed']}: the same noise without and with AlignVid."
    page = Page(title="AlignVid", lead=lead, rows=(row_of_record(record, id="video"),), links=links)
    return {PAGE_FILE: render_page(page).encode()}


def jobs_page(results: Sequence[JobResult]) -> Page:
    """The page of a file of jobs, in the folder that holds a folder for each."""
    rows = [
        row_of_record(result.record, id=result.id, folder=result.id, links=own_pages(result))
        if result.record
        else row_of_failure(id=result.id, prompt=result.spec.prompt, error=result.error or "no record")
        for result in results
    ]
    finished_count = sum(result.record is not None for result in results)
    counts = (Count("finished", f"{finished_count} of {len(rows)}"),)
    return Page(title="AlignVid", lead="One row per job.", rows=tuple(rows), counts=counts)


def own_pages(result: JobResult) -> tuple[Link, ...]:
    """Links from the page of all jobs to a job's own pages; a job without its baseline has none."""
    if not _has_own_page(result):
        return ()
    attention = Link("Attention", f"{result.id}/{ATTENTION_PAGE}")
    links = (Link("Own page", f"{result.id}/{PAGE_FILE}"), attention)
    return links if (result.folder / ATTENTION_PAGE).is_file() else links[:1]


def write_own_pages(results: Sequence[JobResult], back: str) -> None:
    """Write a page into the folder of each job that has its baseline.

    Args:
        results: The jobs; the page of all is in the folder above theirs.
        back: What the link to the page of all says.
    """
    for result in results:
        if result.record is None or not _has_own_page(result):
            continue
        links = (Link(back, f"../{PAGE_FILE}"),)
        if (result.folder / ATTENTION_PAGE).is_file():
            links += (Link("Attention", ATTENTION_PAGE),)
        write_together(result.folder, comparison_files(result.record, links))


def _has_own_page(result: JobResult) -> bool:
    return result.record is not None and "baseline" in result.record.outputs


def row_of_failure(*, id: str, prompt: str, error: str) -> Row:
    """The row of a generation that gave no video."""
    return Row(id=id, prompt=prompt, clips=(), fps=1.0, error=error)


def _facts(record: Record) -> tuple[tuple[str, str], ...]:
    attachment, settings = record.attachment, record.settings
    gains = ", ".join(f"{target} ×{gain:.4g}" for target, gain in attachment["gains"].items())
    return (
        ("model", record.model["name"]),
        ("recipe", attachment["name"]),
        ("gains", gains),
        ("acted", f"{attachment['acted']}× in {attachment['active_forwards']} of {attachment['forwards']} passes"),
        ("seed", str(record.spec["seed"])),
        ("steps", str(settings["steps"])),
        ("guidance", str(settings["guidance"])),
    )
