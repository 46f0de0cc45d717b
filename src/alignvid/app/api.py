"""What programs call: the same runs, with their records and files. docs/app.md describes it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from alignvid.app.attempts import Attempted
from alignvid.app.desk import worded
from alignvid.app.form import PRESET, SLIDER, Form
from alignvid.app.runs import Run, newest_runs
from alignvid.app.turns import quick, waiting
from alignvid.app.watching import Watched
from alignvid.app.workshop import Loading, Look, Report, Waiting, Workshop
from alignvid.errors import AlignvidError

Answer = tuple[dict[str, Any], str | None, str | None]
"""What happens or happened; the video; the one without AlignVid."""
T = TypeVar("T")


class Api:
    """The endpoints of a workshop. Each gives what a run does while it runs, and last the run."""

    def __init__(self, shop: Workshop) -> None:
        """Args: shop: where runs are made."""
        self._shop = shop

    def generate(
        self,
        prompt: str,
        picture: str | None = None,
        follow: float | None = None,
        words: str = "",
        preset: str = "",
        model: str = "",
        negative_prompt: str = "",
        seed: float | None = 0,
        steps: float | None = None,
        guidance: float | None = None,
        size: str = "",
        frames: float | None = None,
        compare: bool = True,
    ) -> Generator[Answer, None, None]:
        """Make a video that follows its prompt.

        `follow`, from -1 to 1, takes the place of a preset; `words` are such as "sunglasses:1.6". What is left out is
        the model's own.
        """
        texts = (words, preset, model, negative_prompt)
        form = _form(picture, prompt, follow, texts, (seed, steps, guidance), size, frames)
        yield from _answered(lambda report: self._shop.make(form, report, compare=compare), _run, picture)

    def follow(
        self,
        prompt: str,
        picture: str | None = None,
        questions: str = "",
        budget: float = 6,
        follow: float | None = None,
        words: str = "",
        preset: str = "",
        model: str = "",
        negative_prompt: str = "",
        seed: float | None = 0,
        steps: float | None = None,
        guidance: float | None = None,
        size: str = "",
        frames: float | None = None,
    ) -> Generator[Answer, None, None]:
        """Attempts with new noise until the judge says that the prompt is followed; gives the best.

        `questions` has one on each line; empty, the judge asks its own.
        """
        texts = (words, preset, model, negative_prompt)
        form = _form(picture, prompt, follow, texts, (seed, steps, guidance), size, frames)
        yield from _answered(
            lambda report: self._shop.follow(form, questions, int(budget), report),
            lambda done: (_run(done[0])[0] | {"followed": done[1].to_dict()}, *_run(done[0])[1:]),
            picture,
        )

    def repeat(self, run: str) -> Generator[Answer, None, None]:
        """Make a run again from its record; on the same machine and versions every frame is equal."""
        yield from _answered(lambda report: self._shop.repeat(run, report).run, _run)

    def attention(self, run: str, word: str) -> Generator[Answer, None, None]:
        """Videos under the map of a word: how much each place attended to it, with and without AlignVid."""
        yield from _answered(lambda report: self._shop.look(run, word, report), _looked)

    def runs(self) -> list[dict[str, Any]]:
        """The runs on disk, newest first: id, prompt, model, seed and when each was made."""
        self._shop.wait_until_read()
        return [
            {
                "run": run.id,
                "prompt": run.record.spec["prompt"],
                "model": run.record.model["name"],
                "seed": run.record.spec["seed"],
                "created": run.record.created,
            }
            for run in newest_runs(self._shop.root)
        ]


def add_api(shop: Workshop) -> None:
    """Add the endpoints to the page at hand, before anything else has their names; nothing of them is seen on it."""
    api = Api(shop)
    with gr.Column(visible=False):
        picture = gr.Image(type="filepath", image_mode=None, label="picture")
        picture.preprocess = lambda payload: payload and payload.path
        prompt, questions, run, word, size = (
            gr.Textbox("", label=name) for name in ("prompt", "questions", "run", "word", "size")
        )
        texts = [gr.Textbox("", label=name) for name in ("words", "preset", "model", "negative_prompt")]
        follow, steps, guidance, frames = (
            gr.Number(None, label=name) for name in ("follow", "steps", "guidance", "frames")
        )
        seed, budget, compare = gr.Number(0, label="seed"), gr.Number(6, label="budget"), gr.Checkbox(True)
        button, made = gr.Button(), [gr.JSON(label="run"), gr.File(label="video"), gr.File(label="baseline")]
        fields = [follow, *texts, seed, steps, guidance, size, frames]
        endpoints = {
            api.generate: [prompt, picture, *fields, compare],
            api.follow: [prompt, picture, questions, budget, *fields],
            api.repeat: [run],
            api.attention: [run, word],
        }
        for endpoint, inputs in endpoints.items():
            button.click(endpoint, inputs, made, api_name=endpoint.__name__, **waiting(is_public=True))
        button.click(api.runs, None, gr.JSON(label="runs"), api_name="runs", **quick(is_public=True))


def _form(
    picture: str | None,
    prompt: str,
    follow: float | None,
    texts: tuple[str, str, str, str],
    numbers: tuple[float | None, float | None, float | None],
    size: str,
    frames: float | None,
) -> Form:
    words, preset, model, negative_prompt = texts
    seed, steps, guidance = numbers
    return Form(
        picture=picture,
        prompt=prompt,
        strength=PRESET if follow is None else SLIDER,
        follow=0.0 if follow is None else follow,
        words=words,
        preset=preset,
        model=model,
        negative_prompt=negative_prompt,
        seed=seed,
        steps=steps,
        guidance=guidance,
        size=size,
        frames=frames,
    )


def _answered(
    work: Callable[[Report], T], finished: Callable[[T], Answer], picture: str | None = None
) -> Generator[Answer, None, None]:
    """What is reported, and the answer. Raises: gr.Error with the sentence of whatever a user can mend."""
    watched = Watched()
    steps = watched.run(lambda: work(watched.report))
    try:
        while True:
            try:
                seen = next(steps)
            except StopIteration as end:
                yield finished(end.value)
                return
            yield _said(seen), None, None
    except AlignvidError as error:
        raise gr.Error(worded(error, picture), print_exception=False) from error
    finally:
        steps.close()


def _said(seen: Any) -> dict[str, Any]:
    if isinstance(seen, Waiting | Loading):
        return {"stage": "waiting" if isinstance(seen, Waiting) else "loading"}
    if isinstance(seen, Attempted):
        return {"stage": "attempt", "number": seen.number, "text": seen.text}
    return asdict(seen)


def _run(run: Run) -> Answer:
    from alignvid.generate.run import ALIGNVID, BASELINE

    outputs = run.record.outputs
    video = str(run.folder / outputs[ALIGNVID]["file"])
    baseline = str(run.folder / outputs[BASELINE]["file"]) if BASELINE in outputs else None
    return {"run": run.id, "record": run.record.to_dict()}, video, baseline


def _looked(look: Look) -> Answer:
    from alignvid.generate.run import ALIGNVID, BASELINE

    files = {Path(name).stem.rpartition("-")[2]: name for name in look.files}
    found = [str(look.folder / files[role]) if role in files else None for role in (ALIGNVID, BASELINE)]
    return {"run": look.run.id, "word": look.word, "page": look.page}, found[0], found[1]
