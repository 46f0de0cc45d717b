"""A worker: one loaded model that makes the videos of tasks, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image

from alignvid.attachment.attach import attach
from alignvid.attachment.attachment import Attachment
from alignvid.bench.records import ProofFacts, VideoRecord
from alignvid.bench.run_folder import BASELINE, VIDEOS
from alignvid.bench.runs.jobs import Job, Task
from alignvid.bench.runs.loops import Chosen, chosen_clips
from alignvid.bench.runs.spec import BenchSpec
from alignvid.errors import InputError, pass_on_interrupt
from alignvid.files import sha256_of_bytes
from alignvid.generate.call import call_arguments, frames_of
from alignvid.generate.guidance import guided_until
from alignvid.generate.guiders import guided_pipeline, run_guided
from alignvid.generate.loading import find_model
from alignvid.generate.loras import load_loras
from alignvid.generate.memory import forget_peak, peak_bytes
from alignvid.generate.model import Model, load_model
from alignvid.generate.progress import Progress, steps_reported
from alignvid.media.blur import blurred_image
from alignvid.media.images import decode_image, fit_image, png_bytes
from alignvid.media.videos import Frames, encode_video

TIMED_STEPS = 2


class Made(NamedTuple):
    """What became of a job."""

    record: VideoRecord
    video: bytes | None


class Facts(NamedTuple):
    """What the making of a clip took, and what acted in it."""

    seconds: float
    peak_bytes: int | None = None
    proof: ProofFacts | None = None


class Timed(NamedTuple):
    """What one clip costs."""

    step_s: float
    other_s: float
    """Encoding of texts and pictures, and decoding."""
    peak_bytes: int | None
    file_bytes: int
    """Of its video; of few steps it is noise, which takes more than a finished one."""

    def seconds(self, steps: int) -> float:
        """Of a whole clip."""
        return self.other_s + steps * self.step_s


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
        load_loras(self.model.pipeline, spec.loras)
        self.pipeline: Any = _batched(self.model.pipeline, spec.batch)
        self.encodings = Encodings(self.pipeline)
        self.trajectories = Trajectories(self.pipeline)
        self._samples: Any = None
        self._inputs: Any = None

    def run(self, task: Task, images: Sequence[bytes | None]) -> list[Made]:
        """One result per job; a job that raises gives a failed record with its error, and the worker takes the next."""
        try:
            if task.jobs[0].variant.still:  # without the model
                pictures = zip(task.jobs, images, strict=True)
                return [made_of(job, still_clip(job, one, self.spec.max_pixels), Facts(0.0)) for job, one in pictures]
            forget_peak(self.model.device.name)
            begin = time.perf_counter()
            clips, attachment = self._clips(task, images)
            seconds = (time.perf_counter() - begin) / len(task.jobs)
            peak = peak_bytes(self.model.device.name)
            facts = Facts(seconds, peak, None if attachment is None else proof(attachment))
            return [
                made_of(replace(job, noise_seed=chosen.noise_seed), chosen.clip, facts, chosen.attempts)
                for job, chosen in zip(task.jobs, clips, strict=True)
            ]
        except Exception as error:  # the outer loop: one job's failure must not lose the others
            pass_on_interrupt(error)
            if len(task.jobs) == 1:
                return [Made(failed(task.jobs[0], f"{type(error).__name__}: {error}"), None)]
        pairs = zip(task.alone(), images, strict=True)
        return [made for single, image in pairs for made in self.run(single, [image])]

    def _clips(self, task: Task, images: Sequence[bytes | None]) -> tuple[list[Chosen], Attachment | None]:
        self._forget_what_is_over(task)
        recipe, runner = task.jobs[0].variant.recipe, self._runner(task.jobs[0])
        with ExitStack() as stack:
            stack.enter_context(self.model.thread_limit())
            if self.spec.shares:  # first: a recipe may encode a text of its own
                stack.enter_context(self.encodings.shared())
            attachment = stack.enter_context(
                nullcontext() if recipe is None else attach(runner, recipe, strict=self.spec.strict)
            )
            if self.spec.shares and runner is self.pipeline:  # a guider's hooks change blocks between equal forwards
                stack.enter_context(self.trajectories.shared(recipe, [later.recipe for later in task.followers]))
            pictures = [
                _reference(job, image, self.spec.max_pixels) for job, image in zip(task.jobs, images, strict=True)
            ]
            clips = chosen_clips(task.jobs, pictures, partial(self._made, runner))
        return clips, attachment

    def _made(self, runner: Any, jobs: Sequence[Job], pictures: Sequence[Image.Image | None]) -> list[Frames]:
        return self._batch(jobs, pictures) if self.spec.batch > 1 else [self._single(jobs[0], pictures[0], runner)]

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

    def _single(self, job: Job, reference: Image.Image | None, runner: Any) -> Frames:
        import torch

        spec = self.spec.generation(
            prompt=job.sample.prompt,
            seed=job.noise_seed,
            guidance=job.settings.guidance,
        )
        arguments = call_arguments(type(self.pipeline), spec, job.settings, reference)
        if job.variant.cfg_high is not None:
            arguments["callback_on_step_end"] = guided_until(job.variant.cfg_high)
        generator = torch.Generator("cpu").manual_seed(job.noise_seed)
        arguments |= {**self.model.source.extra_arguments, "generator": generator}
        with torch.no_grad():
            made = runner(**arguments) if job.variant.guider is None else run_guided(runner, arguments)
            return frames_of(made)

    def timed(self, job: Job, image: bytes | None) -> Timed:
        """What a clip of this job would cost, from one that is stopped being denoised after its second step.

        The second step is the one that counts: kernels are chosen and compiled in the first.
        """
        moments: list[float] = []

        def note(progress: Progress) -> None:
            if progress.stage == "steps" and progress.done:
                moments.append(time.perf_counter())

        short = replace(job, settings=replace(job.settings, steps=min(TIMED_STEPS, job.settings.steps)))
        forget_peak(self.model.device.name)
        begin = time.perf_counter()
        with self.model.thread_limit(), steps_reported(self.pipeline, BASELINE, short.settings.steps, note):
            clip = self._single(short, _reference(short, image, self.spec.max_pixels), self.pipeline)
        seconds = time.perf_counter() - begin
        step = moments[-1] - moments[-2] if len(moments) > 1 else seconds
        other = max(seconds - step * len(moments), 0.0)
        video = encode_video(clip, job.settings.fps)
        return Timed(step, other, peak_bytes(self.model.device.name), len(video))

    def _batch(self, jobs: Sequence[Job], pictures: Sequence[Image.Image | None]) -> list[Frames]:
        """As many clips as a batch has, however many jobs there are: then no clip depends on which others run."""
        padded = [index % len(jobs) for index in range(self.spec.batch)]
        settings = jobs[0].settings
        clips = self.pipeline.generate(
            [pictures[index] for index in padded],
            [jobs[index].sample.prompt for index in padded],
            [jobs[index].noise_seed for index in padded],
            steps=settings.steps,
            guidance=settings.guidance,
            after_step=None if (high := jobs[0].variant.cfg_high) is None else guided_until(high),
        )
        return clips[: len(jobs)]


def proof(attachment: Attachment) -> ProofFacts:
    """What an attachment did."""
    said = attachment.to_dict()
    return cast("ProofFacts", {name: said[name] for name in ProofFacts.__annotations__})


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


def still_clip(job: Job, image: bytes | None, max_pixels: int) -> Frames:
    """The reference picture, as the model would get it, for the whole length of the video."""
    reference = _reference(job, image, max_pixels)
    if reference is None:
        raise InputError("A still video needs a reference picture, and this sample is a prompt alone.")
    picture = np.asarray(reference.convert("RGB"), np.uint8)
    return np.repeat(picture[None], job.settings.frames or 1, 0)


def made_of(job: Job, clip: Frames, facts: Facts, attempts: int | None = None) -> Made:
    """The video of a job, or the picture as PNG, and its record; `attempts`: how many a loop made to choose it."""
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
        seconds=round(facts.seconds, 3),
        attempts=attempts,
        peak_bytes=facts.peak_bytes,
        proof=facts.proof,
    )
    return Made(record, video)
