"""The demo: eight made scenes, the miniature with and without AlignVid, and the rule judge's verdict on each video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from alignvid.files import writable_folder, write_bytes
from alignvid.generate import GenerationSpec, Job, JobResult, run_jobs
from alignvid.generate.progress import OnProgress, unwatched
from alignvid.generate.run import ALIGNVID, BASELINE
from alignvid.media.images import png_bytes
from alignvid.media.videos import read_video
from alignvid.miniature.drawing import first_frame
from alignvid.miniature.evaluate import Trial, trials
from alignvid.miniature.judge import Judgement
from alignvid.miniature.scenes import HELD_OUT
from alignvid.miniature.strict import judge_scene
from alignvid.report.page import Count, Page, Row, Verdict, write_page
from alignvid.report.rows import own_pages, row_of_failure, row_of_record, write_own_pages

SCENE_COUNT = 8
NOISE_SEED = 0
_PICTURES = "pictures"
_LEAD = (
    "Eight scenes that the miniature never saw in training, chosen by seed and not by how they turn out: the same "
    "prompt, picture and noise without and with AlignVid. A rule that knows the scene judges every video from its "
    "pixels. Eight are an illustration; docs/miniature.md has the rates on many."
)


@dataclass(frozen=True)
class Demo:
    """A finished demo."""

    page: Path
    results: list[JobResult]
    judgements: dict[str, dict[str, Judgement]]
    """By scene and role."""

    def shown_count(self, role: str) -> int:
        """Videos of a role that show the edit which the prompt asks for."""
        return sum(judgements[role].edit_shown for judgements in self.judgements.values())

    def untouched_count(self, role: str) -> int:
        """Videos of a role that leave the rest of the scene alone."""
        return sum(judgements[role].rest_untouched for judgements in self.judgements.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        roles = (BASELINE, ALIGNVID)
        return {
            "page": str(self.page),
            "scenes": len(self.judgements),
            "edit_shown": {role: self.shown_count(role) for role in roles},
            "rest_untouched": {role: self.untouched_count(role) for role in roles},
            "failed": {result.id: result.error for result in self.results if result.error},
        }


def run_demo(
    out: str | Path,
    *,
    on_result: Callable[[JobResult], None] = lambda result: None,
    on_choice: Callable[[dict[str, str]], None] = lambda lines: None,
    on_progress: OnProgress = unwatched,
) -> Demo:
    """Make the demo in a folder; scenes that are there from an earlier run are not made again.

    Args:
        out: The folder; made if it is missing.
        on_result: Called after each scene.
        on_choice: As for `run_jobs`.
        on_progress: As for `run_jobs`.
    """
    out = writable_folder(Path(out))
    cases = {f"scene-{number}": case for number, case in enumerate(trials(HELD_OUT, SCENE_COUNT), start=1)}
    jobs = [_job(out, name, case) for name, case in cases.items()]
    watched = {"on_result": on_result, "on_choice": on_choice, "on_progress": on_progress}
    results = run_jobs(jobs, out, compare=True, **watched)
    judgements = {result.id: _judge(result, cases[result.id]) for result in results if result.record}
    demo = Demo(out / "index.html", results, judgements)
    write_own_pages(results, back="All scenes")
    write_page(out, _page(demo))
    return demo


def _job(out: Path, name: str, case: Trial) -> Job:
    picture = writable_folder(out / _PICTURES) / f"{name}.png"
    write_bytes(picture, png_bytes(Image.fromarray(first_frame(case.scene))))
    return Job(name, GenerationSpec(image=str(picture), prompt=case.prompt, seed=NOISE_SEED))


def _judge(result: JobResult, case: Trial) -> dict[str, Judgement]:
    """Of the videos as written, so that the verdict is on what is seen."""
    frames = {role: read_video(result.folder / f"{role}.mp4").frames for role in (BASELINE, ALIGNVID)}
    return {role: judge_scene(clip, case.scene, case.request) for role, clip in frames.items()}


def _page(demo: Demo) -> Page:
    count = len(demo.judgements)
    return Page(
        title="AlignVid on the miniature",
        lead=_LEAD,
        rows=tuple(_row(result, demo.judgements.get(result.id)) for result in demo.results),
        counts=(
            Count("prompt followed, baseline", f"{demo.shown_count(BASELINE)} of {count}"),
            Count("prompt followed, AlignVid", f"{demo.shown_count(ALIGNVID)} of {count}"),
            Count("rest untouched, baseline", f"{demo.untouched_count(BASELINE)} of {count}"),
            Count("rest untouched, AlignVid", f"{demo.untouched_count(ALIGNVID)} of {count}"),
        ),
    )


def _row(result: JobResult, judgements: dict[str, Judgement] | None) -> Row:
    if result.record is None or judgements is None:
        return row_of_failure(id=result.id, prompt=result.spec.prompt, error=result.error or "no record")
    verdicts = {role: _verdicts(judgement) for role, judgement in judgements.items()}
    return row_of_record(result.record, id=result.id, folder=result.id, verdicts=verdicts, links=own_pages(result))


def _verdicts(judgement: Judgement) -> tuple[Verdict, ...]:
    why = "; ".join(judgement.reasons)
    shown = Verdict("edit shown" if judgement.edit_shown else "edit not shown", judgement.edit_shown, why)
    if judgement.rest_untouched:
        return (shown,)
    return shown, Verdict("something else changed", False, why)
