"""A worker: one loaded model that makes the videos of tasks, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from alignvid.attachment.attach import attach
from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import VIDEOS
from alignvid.bench.runs.jobs import Job, Task
from alignvid.bench.runs.spec import BenchSpec
from alignvid.errors import InputError, pass_on_interrupt
from alignvid.files import sha256_of_bytes
from alignvid.generate.call import call_arguments, frames_of
from alignvid.generate.guidance import guided_until
from alignvid.generate.guiders import guided_pipeline, run_guided
from alignvid.generate.loading import find_model
from alignvid.generate.model import Model, load_model
from alignvid.media.blur import blurred_image
from alignvid.media.images import decode_image, fit_image, png_bytes
from alignvid.media.videos import Frames, encode_video


class Made(NamedTuple):
    """What became of a job."""

    record: VideoRecord
    video: bytes | None


@runtime_checkable
class Worker(Protocol):
    """Makes the videos of a task."""

    def run(self, task: Task, images: Sequence[bytes | None]) -> list[Made]:
        """One result per job of the task; `images` are the files of their reference images."""
        ...


class PipelineWorker:
    """Runs a diffusers pipeline."""

    def __init__(self, spec: BenchSpec) -> None:
        """Load the model of a run on the device that it asks for."""
        from alignvid.bench.runs.sharing import Encodings, Trajectories

        self.spec = spec
        self.model: Model = load_model(find_model(spec.model), spec.generation(), show_progress=False)
        self.pipeline: Any = _batched(self.model.pipeline, spec.batch)
        self.encodings = Encodings(self.pipeline)
        self.trajectories = Trajectories(self.pipeline)
        self._samples: Any = None
        self._inputs: Any = None

    def run(self, task: Task, images: Sequence[bytes | None]) -> list[Made]:
        """One result per job; a job that raises gives a failed record with its error, and the worker takes the next."""
        try:
            begin = time.perf_counter()
            clips = self._clips(task, images)
            seconds = (time.perf_counter() - begin) / len(task.jobs)
            return [made_of(job, clip, seconds) for job, clip in zip(task.jobs, clips, strict=True)]
        except Exception as error:  # the outer loop: one job's failure must not lose the others
            pass_on_interrupt(error)
            if len(task.jobs) == 1:
                return [Made(failed(task.jobs[0], f"{type(error).__name__}: {error}"), None)]
        alone = [replace(task, jobs=(job,), followers=()) for job in task.jobs]  # to find out which one it is
        return [made for single, image in zip(alone, images, strict=True) for made in self.run(single, [image])]

    def _clips(self, task: Task, images: Sequence[bytes | None]) -> list[Frames]:
        if task.jobs[0].variant.still:
            return [_still(job, image, self.spec.max_pixels) for job, image in zip(task.jobs, images, strict=True)]
        self._forget_what_is_over(task)
        recipe, runner = task.jobs[0].variant.recipe, self._runner(task.jobs[0])
        with ExitStack() as stack:
            stack.enter_context(self.model.thread_limit())
            stack.enter_context(self.encodings.shared())  # first: a recipe may encode a text of its own
            stack.enter_context(nullcontext() if recipe is None else attach(runner, recipe, strict=self.spec.strict))
            stack.enter_context(self.trajectories.shared(recipe, [later.recipe for later in task.followers]))
            if self.spec.batch > 1:
                return self._batch(task.jobs, images)
            return [self._single(task.jobs[0], images[0], runner)]

    def _runner(self, job: Job) -> Any:
        """What runs a job: the pipeline, or a modular one with a guider on its models."""
        if job.variant.guider is None:
            return self.pipeline
        return guided_pipeline(self.pipeline, job.variant.guider, job.settings.guidance or 1.0)

    def _forget_what_is_over(self, task: Task) -> None:
        first = task.jobs[0]
        samples = tuple(job.sample.id for job in task.jobs)
        variant = first.variant
        inputs = (samples, first.seed, first.settings.guidance, variant.blur, variant.prompts, variant.images)
        if samples != self._samples:
            self.encodings.forget()
        if inputs != self._inputs:
            self.trajectories.forget()
        self._samples, self._inputs = samples, inputs

    def _single(self, job: Job, image: bytes | None, runner: Any) -> Frames:
        import torch

        spec = self.spec.generation(
            prompt=job.sample.prompt,
            seed=job.noise_seed,
            guidance=job.settings.guidance,
        )
        reference = _reference(job, image, self.spec.max_pixels)
        arguments = call_arguments(type(self.pipeline), spec, job.settings, reference)
        if job.variant.cfg_high is not None:
            arguments["callback_on_step_end"] = guided_until(job.variant.cfg_high)
        generator = torch.Generator("cpu").manual_seed(job.noise_seed)
        arguments |= {**self.model.source.extra_arguments, "generator": generator}
        with torch.no_grad():
            made = runner(**arguments) if job.variant.guider is None else run_guided(runner, arguments)
            return frames_of(made)

    def _batch(self, jobs: Sequence[Job], images: Sequence[bytes | None]) -> list[Frames]:
        """As many clips as a batch has, however many jobs there are: then no clip depends on which others run."""
        padded = [index % len(jobs) for index in range(self.spec.batch)]
        references = [_reference(jobs[index], images[index], self.spec.max_pixels) for index in padded]
        settings = jobs[0].settings
        clips = self.pipeline.generate(
            references,
            [jobs[index].sample.prompt for index in padded],
            [jobs[index].noise_seed for index in padded],
            steps=settings.steps,
            guidance=settings.guidance,
            after_step=None if (high := jobs[0].variant.cfg_high) is None else guided_until(high),
        )
        return clips[: len(jobs)]


def failed(job: Job, error: str) -> VideoRecord:
    """The record of a job that gave no video."""
    return VideoRecord(
        job=job.id,
        sample=job.sample.id,
        variant=job.variant.name,
        seed=job.seed,
        noise_seed=job.noise_seed,
        status="failed",
        error=" ".join(error.split()),
    )


def _batched(pipeline: Any, batch: int) -> Any:
    if batch == 1:
        return pipeline
    from alignvid.miniature.batches import batched

    return batched(pipeline)


def _reference(job: Job, image: bytes | None, max_pixels: int) -> Image.Image | None:
    """The reference image as the model gets it, if there is one."""
    if image is None:
        return None
    pixels = decode_image(image, str(job.image), max_pixels=max_pixels).pixels
    fitted = fit_image(pixels, job.settings.width, job.settings.height)
    return fitted if job.variant.blur is None else blurred_image(fitted, job.variant.blur)


def _still(job: Job, image: bytes | None, max_pixels: int) -> Frames:
    """The reference picture, as the model would get it, for the whole length of the video."""
    reference = _reference(job, image, max_pixels)
    if reference is None:
        raise InputError("A still video needs a reference picture, and this sample is a prompt alone.")
    picture = np.asarray(reference.convert("RGB"), np.uint8)
    return np.repeat(picture[None], job.settings.frames or 1, 0)


def made_of(job: Job, clip: Frames, seconds: float) -> Made:
    """The video of a job, or the picture as PNG, and its record."""
    is_picture = job.settings.frames is None and len(clip) == 1  # of a pipeline that makes no videos
    video = png_bytes(Image.fromarray(clip[0])) if is_picture else encode_video(clip, job.settings.fps)
    frames, height, width, _ = clip.shape
    record = VideoRecord(
        job=job.id,
        sample=job.sample.id,
        variant=job.variant.name,
        seed=job.seed,
        noise_seed=job.noise_seed,
        status="done",
        file=f"{VIDEOS}/{job.id}.{'png' if is_picture else 'mp4'}",
        sha256=sha256_of_bytes(video),
        frames_sha256=sha256_of_bytes(np.ascontiguousarray(clip).tobytes()),
        frames=frames,
        width=width,
        height=height,
        fps=job.settings.fps,
        seconds=round(seconds, 3),
    )
    return Made(record, video)
