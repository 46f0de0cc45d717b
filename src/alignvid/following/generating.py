"""The loop for a GenerationSpec, in a folder: each attempt is a generation with its record, made by `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignvid.files import is_there
from alignvid.following.attempts import Followed, Made
from alignvid.following.floors import Floor
from alignvid.following.folder import QUESTIONS_FILE, frames_in, opened_folder, read_questions, write_questions
from alignvid.following.limits import Limits
from alignvid.following.loop import Judging, OnAttempt, ShouldStop, never, run_loop, unwatched
from alignvid.following.questions import Judge, Question, checked_questions
from alignvid.generate.identity import model_identity
from alignvid.generate.model import Model, load_model
from alignvid.generate.plan import Plan, plan
from alignvid.generate.progress import OnProgress, Progress
from alignvid.generate.progress import unwatched as no_progress
from alignvid.generate.run import ALIGNVID, generate
from alignvid.generate.spec import GenerationSpec
from alignvid.recipe import Recipe

_NO_MATTER = ("image", "max_pixels")
"""Fields of a spec that do not decide the videos: of the picture its digest does."""


def generate_until_followed(
    spec: GenerationSpec,
    out: str | Path,
    *,
    judge: Judge,
    questions: Iterable[str | Question] | None = None,
    budget: int | None = None,
    minutes: float | None = None,
    must_move: bool | None = None,
    floors: Iterable[Floor] = (),
    model: Model | None = None,
    recipe: Recipe | None = None,
    strict: bool = False,
    on_plan: Callable[[Plan], None] = lambda planned: None,
    on_questions: Callable[[tuple[Question, ...]], None] = lambda asked: None,
    on_progress: OnProgress = no_progress,
    on_attempt: OnAttempt = unwatched,
    should_stop: ShouldStop = never,
) -> Followed:
    """Make the video of a spec again with new noise until the judge says that the prompt is followed.

    The folder gets `attempt-1`, `attempt-2`, …, each as `generate` leaves it, the questions, the answers, and the best
    video as `best.mp4`. The same call again judges and makes what is missing.

    Args:
        spec: What to make; its seed is the first attempt's, the next has the next number.
        out: Folder for the results; made if it is missing.
        judge: As for `alignvid.follow`.
        questions: As for `alignvid.follow`; unless given those in the folder's `questions.json`, else the judge's own.
        budget: Most attempts; 6 unless given.
        minutes: In place of a budget: no attempt begins after so many.
        must_move: As for `alignvid.follow`.
        floors: As for `alignvid.follow`.
        model: A model loaded before, to be used again; it must be the spec's.
        recipe: A recipe to be used in place of the spec's preset.
        strict: As for `generate`.
        on_plan: Called once with what will run, before the model is loaded.
        on_questions: Called once with what is asked.
        on_progress: As for `generate`, of each attempt.
        on_attempt: Called after each attempt, also after one that was there.
        should_stop: Asked before each attempt.

    Raises: AlignvidError before a model is loaded, where that can be known so early; JudgeError, which holds the
    attempts so far.
    """
    limits = Limits.of(budget, minutes)
    planned = plan(spec, source=model.source if model else None, recipe=recipe)
    written = Path(out) / QUESTIONS_FILE
    asked = checked_questions(read_questions(written) if questions is None and is_there(written) else questions, judge)
    moves = planned.settings.frames is not None and planned.image is not None if must_move is None else must_move
    with opened_folder(Path(out), _facts(planned, recipe)) as folder:
        write_questions(written, asked)
        on_plan(planned)
        on_questions(asked)
        found = run_loop(
            _Maker(planned, folder.path, model, recipe, strict, on_progress).make,
            Judging(judge=judge, questions=asked, must_move=moves, floors=tuple(floors)),
            limits,
            seed=spec.seed,
            folder=folder,
            on_attempt=on_attempt,
            should_stop=should_stop,
        )
        folder.keep_best(found)
    return found


class _Maker:
    """Makes attempts in a folder; the model is loaded for the first that is not there."""

    def __init__(
        self,
        planned: Plan,
        folder: Path,
        model: Model | None,
        recipe: Recipe | None,
        strict: bool,
        on_progress: OnProgress,
    ) -> None:
        self._planned, self._folder, self._model = planned, folder, model
        self._recipe, self._strict, self._on_progress = recipe, strict, on_progress

    def make(self, number: int, seed: int) -> Made:
        """The video of an attempt with its record; the first one measures what the gain changes, too."""
        spec = replace(self._planned.spec, seed=seed)
        if self._model is None:
            self._on_progress(Progress("loading"))
            self._model = load_model(self._planned.source, spec, show_progress=False)
        made = generate(
            spec,
            self._folder / f"attempt-{number}",
            model=self._model,
            recipe=self._recipe,
            strict=self._strict,
            proof=number == 1,
            on_progress=self._on_progress,
        )
        facts: Any = made.record.attachment
        file = made.folder / made.record.outputs[ALIGNVID]["file"]
        return Made(
            frames=frames_in(file),
            file=file,
            rung=facts["name"],
            recipe=made.record.recipe,
            forwards=facts["forwards"],
            active_forwards=facts["active_forwards"],
            acted=facts["acted"],
            proof=facts.get("proof"),
            seconds=made.record.timings["alignvid_s"],
        )


def _facts(planned: Plan, recipe: Recipe | None) -> dict[str, Any]:
    """What decides the videos."""
    spec = {name: value for name, value in planned.spec.to_dict().items() if name not in _NO_MATTER}
    digest = None if planned.reference is None else planned.reference.sha256
    identity = model_identity(planned.source)
    weights = {name: value for name, value in identity.items() if name != "name"}
    recorded = None if recipe is None else recipe.to_dict()
    return {**spec, "weights": weights, "picture": digest, "recorded_recipe": recorded}
