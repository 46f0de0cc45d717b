"""alignvid.follow: run any diffusers pipeline again with new noise until a judge says that the prompt is followed."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alignvid.attachment.attach import attach
from alignvid.errors import InputError
from alignvid.files import write_bytes
from alignvid.following.attempts import Followed, Made
from alignvid.following.floors import Floor
from alignvid.following.folder import QUESTIONS_FILE, frames_in, opened_folder, write_questions
from alignvid.following.limits import Limits
from alignvid.following.loop import Judging, Make, OnAttempt, ShouldStop, never, run_loop, unwatched
from alignvid.following.questions import Judge, Question, checked_questions
from alignvid.following.weights import weights_digest
from alignvid.generate.call import frames_of
from alignvid.media.images import png_bytes
from alignvid.media.videos import Frames, encode_video
from alignvid.modulation import Modulation
from alignvid.presets import Preset
from alignvid.recipe import Recipe

_OURS = {
    "generator": "seed decides the noise",
    "output_type": "frames are needed as they are",
    "return_dict": "the pipeline's own output is read",
    "num_videos_per_prompt": "an attempt is one video",
    "num_images_per_prompt": "an attempt is one picture",
}
"""Arguments of a call that the loop sets itself, and why."""
_MOST_SEED = 2**63 - 1


def follow(
    pipe: Any,
    *,
    prompt: str,
    judge: Judge,
    questions: Iterable[str | Question] | None = None,
    budget: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    preset_or_recipe: str | Preset | Recipe | Modulation | None = None,
    gamma: float | None = None,
    must_move: bool | None = None,
    floors: Iterable[Floor] = (),
    out: str | Path | None = None,
    fps: float = 16.0,
    on_attempt: OnAttempt = unwatched,
    should_stop: ShouldStop = never,
    **arguments: Any,
) -> Followed:
    """Make videos with AlignVid attached and new noise each time, until the judge says that the prompt is followed.

    Args:
        pipe: A diffusers pipeline; nothing may be attached to it, and nothing is afterwards.
        prompt: What the video should show.
        judge: Called with the frames, uint8 of (frame, height, width, 3), and the questions; gives an answer to each: a
            probability of yes, a bool, an `Answer`, or None. `alignvid.following.PictureRule` reads the miniature's
            pictures, `alignvid.bench.judges.asker` makes one of a vision-language model.
        questions: Texts such as "Does the cat wear sunglasses?", "rest: Is the sofa still there?" or "no: Has the cat
            left?" (the right answer is no). The judge's own unless given.
        budget: Most attempts; 6 unless given.
        minutes: In place of a budget: no attempt begins after so many.
        seed: Of the first attempt's noise; the next has the next number.
        preset_or_recipe: As for `alignvid.attach`.
        gamma: As for `alignvid.attach`.
        must_move: Whether a video that stands still has failed, whatever the judge says. Unless given: where it has
            several frames and the pipeline was given a picture, which the prompt asks to change.
        floors: Metrics and the least value of each that will do, `Floor("likeness", measure, 0.9)`.
        out: Folder for videos and records; the same call again resumes there. Nothing is written without it.
        fps: Frames a second of the files in `out`.
        on_attempt: Called after each attempt; the frames of the newest and of the best one are there.
        should_stop: Asked before each attempt.
        **arguments: Of the pipeline's call, such as image, height, num_frames, num_inference_steps.

    Examples:
        >>> judge = lambda frames, questions: [frames[-1].mean() > 0 for _ in questions]
        >>> found = alignvid.follow(pipe, prompt="add a circle", judge=judge, questions=["Is it there?"],
        ...     must_move=False, image=image, **size)
        >>> found.is_followed, len(found.attempts), found.best.seed
        (True, 1, 0)

    Returns: all attempts with their answers, and which one is best.
    Raises: InputError before the first attempt for what cannot be; JudgeError, which holds the attempts so far; and
    what `alignvid.attach` raises.
    """
    limits = Limits.of(budget, minutes)
    asked = checked_questions(questions, judge)
    _check(pipe, seed, arguments)
    call = _Call(pipe, {"prompt": prompt, **arguments}, preset_or_recipe, gamma, fps)
    moves = _is_given_a_picture(arguments) if must_move is None else must_move
    judging = Judging(judge=judge, questions=asked, must_move=moves, floors=tuple(floors))
    watched: dict[str, Any] = {"seed": seed, "on_attempt": on_attempt, "should_stop": should_stop}
    if out is None:
        return run_loop(call.make, judging, limits, folder=None, **watched)
    with opened_folder(Path(out), {"seed": seed, **call.plan()}) as folder:
        write_questions(folder.path / QUESTIONS_FILE, asked)
        found = run_loop(call.into(folder.path), judging, limits, folder=folder, **watched)
        folder.keep_best(found)
    return found


class _Call:
    """The same call with another seed each time."""

    def __init__(self, pipe: Any, arguments: dict[str, Any], recipe: Any, gamma: float | None, fps: float) -> None:
        self.pipe, self.arguments, self.recipe, self.gamma, self.fps = pipe, arguments, recipe, gamma, fps

    def make(self, number: int, seed: int) -> Made:
        """The video of an attempt; the first one measures what the gain changes, too."""
        import torch

        begin = time.perf_counter()
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad(), attach(self.pipe, self.recipe, gamma=self.gamma, proof=number == 1) as attachment:
            frames = frames_of(self.pipe(**self.arguments, generator=generator, output_type="np"))
            has_acted = attachment.active_forward_count > 0
            proof = attachment.proof().to_dict() if number == 1 and has_acted else None
        return Made(
            frames=frames,
            file=None,
            rung=attachment.name,
            recipe=attachment.recipe.to_dict(),
            forwards=attachment.forward_count,
            active_forwards=attachment.active_forward_count,
            acted=attachment.acted_count,
            proof=proof,
            seconds=round(time.perf_counter() - begin, 3),
        )

    def into(self, folder: Path) -> Make:
        """The same, written into a folder."""

        def make(number: int, seed: int) -> Made:
            made = self.make(number, seed)
            assert made.frames is not None
            file = write_frames(folder / f"attempt-{number}", made.frames, self.fps)
            return replace(made, frames=frames_in(file), file=file)

        return make

    def plan(self) -> dict[str, Any]:
        """What decides the videos, as plain data."""
        with attach(self.pipe, self.recipe, gamma=self.gamma) as attachment:
            recipe = attachment.recipe.to_dict()
        return {
            "pipeline": type(self.pipe).__name__,
            "model": str(getattr(self.pipe, "name_or_path", None)),
            "weights": weights_digest(self.pipe),
            "recipe": recipe,
            "arguments": {name: _fingerprint(value) for name, value in sorted(self.arguments.items())},
        }


def write_frames(folder: Path, frames: Frames, fps: float) -> Path:
    """A video, or a picture where there is one frame."""
    folder.mkdir(exist_ok=True)
    if len(frames) == 1:
        file, content = folder / "alignvid.png", png_bytes(Image.fromarray(frames[0]))
    else:
        file, content = folder / "alignvid.mp4", encode_video(frames, fps)
    write_bytes(file, content)
    return file


def _check(pipe: Any, seed: int, arguments: Mapping[str, Any]) -> None:
    for name, reason in _OURS.items():
        if name in arguments:
            raise InputError(f"{name} cannot be given to the loop: {reason}; leave it out.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _MOST_SEED:
        raise InputError(f"seed {seed!r} is out of range; give a whole number from 0.")
    known = dict(list(inspect.signature(type(pipe).__call__).parameters.items())[1:])  # without self
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if not is_open and (strange := sorted(set(arguments) - set(known))):
        raise InputError(f"{type(pipe).__name__} takes no {strange[0]!r}; its call knows {', '.join(sorted(known))}.")


def _is_given_a_picture(arguments: Mapping[str, Any]) -> bool:
    return any(arguments.get(name) is not None for name in ("image", "reference_images", "video"))


def _fingerprint(value: Any) -> Any:
    """Plain data as it is, pixels and tensors as a digest, anything else by its type."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_fingerprint(one) for one in value]
    if isinstance(value, Image.Image):
        value = np.asarray(value)
    elif hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return type(value).__name__
