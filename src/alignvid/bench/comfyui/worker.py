"""A worker that lets ComfyUI make the clips: the benchmark's jobs, records and folders, another program's sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignvid.bench.comfyui.client import ComfyClient, ServerGone
from alignvid.bench.comfyui.clips import clip_of
from alignvid.bench.comfyui.workflow import ATTACHES, REPORTS, SHOWS, Workflow
from alignvid.bench.records import ProofFacts
from alignvid.bench.runs.jobs import Job, Task
from alignvid.bench.runs.worker import Facts, Made, Timed, failed, made_of, still_clip
from alignvid.errors import InputError, pass_on_interrupt
from alignvid.files import sha256_of_bytes
from alignvid.media.images import MAX_PIXELS
from alignvid.media.videos import Frames, encode_video


class ComfyWorker:
    """Runs a workflow."""

    def __init__(self, client: ComfyClient, workflow: Workflow) -> None:
        """Ask the server whether it has what is needed. Raises: InputError."""
        client.versions()
        if missing := [kind for kind in (ATTACHES, REPORTS, SHOWS) if not client.has_node(kind)]:
            raise InputError(
                f"ComfyUI has no {missing[0]} node; copy comfyui/ to its custom_nodes/alignvid, install alignvid in "
                "its Python, and start it anew (0.3.75 or later)."
            )
        self._client, self._workflow = client, workflow

    def run(self, task: Task, images: Sequence[bytes]) -> list[Made]:
        """One result per job; a graph that fails gives a failed record, a server that is gone ends the run."""
        made = []
        for job, image in zip(task.jobs, images, strict=True):
            try:
                made.append(self._made(job, image))
            except ServerGone:
                raise
            except Exception as error:  # the outer loop: one job's failure must not lose the others
                pass_on_interrupt(error)
                made.append(Made(failed(job, f"{type(error).__name__}: {error}"), None))
        return made

    def timed(self, job: Job, image: bytes) -> Timed:
        """What a clip would cost: by runs of one and of three steps where the workflow has {{steps}}, else by a whole
        one, in which loading counts, too.
        """
        if "steps" not in self._workflow.placeholders:
            clip, seconds, peak, _ = self._ran(job, image, job.settings.steps, job.noise_seed)
            step_s, other_s = seconds / job.settings.steps, 0.0
        else:
            self._ran(job, image, 1, job.noise_seed)  # loads the model, reads text and picture
            _, one_s, _, _ = self._ran(job, image, 1, job.noise_seed + 1)
            clip, three_s, peak, _ = self._ran(job, image, 3, job.noise_seed + 1)
            step_s = max(three_s - one_s, 0.0) / 2
            other_s = max(one_s - step_s, 0.0)
        return Timed(step_s, other_s, peak, len(encode_video(clip, job.settings.fps)))

    def _made(self, job: Job, image: bytes) -> Made:
        if job.variant.still:
            return made_of(job, still_clip(job, image, MAX_PIXELS), Facts(0.0))
        clip, seconds, peak, said = self._ran(job, image, job.settings.steps, job.noise_seed)
        return made_of(job, clip, Facts(seconds, peak, None if job.variant.node is None else _proof(said)))

    def _ran(
        self, job: Job, image: bytes, steps: int, noise_seed: int
    ) -> tuple[Frames, float, int | None, list[dict[str, Any]]]:
        """Frames, seconds, most memory seen, and what the report nodes said."""
        name = self._client.upload(f"alignvid-{sha256_of_bytes(image)[:16]}{Path(str(job.image)).suffix}", image)
        values = {
            **job.settings.to_dict(),
            "steps": steps,
            "prompt": job.sample.prompt,
            "image": name,
            "seed": noise_seed,
        }
        seen: list[int | None] = []
        done = self._client.run(
            self._workflow.filled(values, job.variant.node), on_poll=lambda: seen.append(self._client.used_bytes())
        )
        outputs = done.get("outputs", {})
        peak = max((value for value in seen if value is not None), default=None)
        return clip_of(outputs, self._client.fetch), _seconds(done), peak, self._workflow.said(outputs)


def _seconds(done: Mapping[str, Any]) -> float:
    """Between the beginning and the end of a run, as the server says them, in milliseconds."""
    said = {kind: values.get("timestamp") for kind, values in done.get("status", {}).get("messages", [])}
    begin, end = said.get("execution_start"), said.get("execution_success")
    return (end - begin) / 1000 if isinstance(begin, int) and isinstance(end, int) else 0.0


def _proof(said: Sequence[Mapping[str, Any]]) -> ProofFacts:
    """What the report nodes say together. Raises: InputError if they said nothing."""
    if not said:
        raise InputError(f"The {REPORTS} node said nothing, so that nothing is proved; is it connected to the sampler?")
    runs = [report["run"] for report in said]
    count = {name: sum(run[name] for run in runs) for name in ("sites", "forwards", "active_forwards", "acted")}
    return {
        "name": "; ".join(dict.fromkeys(report["name"] for report in said)),
        "sites": count["sites"],
        "forwards": count["forwards"],
        "active_forwards": count["active_forwards"],
        "acted": count["acted"],
        "warnings": [note for run in runs for note in run["notes"]],
    }
