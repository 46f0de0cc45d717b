"""What programs call: the same runs, with their records and files. docs/app.md describes it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict
from typing import Any

import gradio as gr

from alignvid.app.desk import worded
from alignvid.app.form import PRESET, SLIDER, Form
from alignvid.app.runs import Run, newest_runs
from alignvid.app.turns import quick, waiting
from alignvid.app.watching import Watched
from alignvid.app.workshop import Report, Workshop
from alignvid.errors import AlignvidError

Answer = tuple[dict[str, Any], str | None, str | None]
"""What happens or happened; the video; the one without AlignVid."""


class Api:
    """The endpoints of a workshop. Each gives what a run does while it runs, and last the run."""

    def __init__(self, shop: Workshop) -> None:
        """Args: shop: where runs are made."""
        self._shop = shop

    def generate(
        self,
        picture: str | None,
        prompt: str,
        follow: float | None,
        words: str,
        preset: str,
        model: str,
        negative_prompt: str,
        seed: int,
        steps: int | None,
        guidance: float | None,
        size: str,
        frames: int | None,
        compare: bool,
    ) -> Generator[Answer, None, None]:
        """Make a video that follows its prompt. `follow` from -1 to 1 takes the place of a preset; `words` such as
        "sunglasses:1.6"; what is left out is the model's own.
        """
        form = Form(
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
        yield from self._answered(lambda report: self._shop.make(form, report, compare=compare), picture)

    def repeat(self, run: str) -> Generator[Answer, None, None]:
        """Make a run again from its record; the new run's frames are equal on the same machine and versions."""
        yield from self._answered(lambda report: self._shop.repeat(run, report).run)

    def runs(self) -> list[dict[str, Any]]:
        """The runs on disk, newest first: id, prompt, model, seed and when each was made."""
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

    def _answered(self, work: Callable[[Report], Run], picture: str | None = None) -> Generator[Answer, None, None]:
        watched = Watched()
        steps = watched.run(lambda: work(watched.report))
        try:
            while True:
                try:
                    seen = next(steps)
                except StopIteration as end:
                    yield _finished(end.value)
                    return
                yield asdict(seen), None, None  # type: ignore[call-overload]  # a Progress
        except AlignvidError as error:
            raise gr.Error(worded(error, picture), print_exception=False) from error
        finally:
            steps.close()


def add_api(shop: Workshop) -> None:
    """Add the endpoints to the page at hand; nothing of them is seen on it."""
    api = Api(shop)
    with gr.Column(visible=False):
        picture = gr.Image(type="filepath", image_mode=None, label="picture")
        picture.preprocess = lambda payload: payload and payload.path
        texts = [gr.Textbox("", label=name) for name in ("words", "preset", "model", "negative_prompt")]
        prompt, follow, seed = (
            gr.Textbox("", label="prompt"),
            gr.Number(None, label="follow"),
            gr.Number(0, label="seed"),
        )
        steps, guidance = gr.Number(None, label="steps", precision=0), gr.Number(None, label="guidance")
        size, frames = gr.Textbox("", label="size"), gr.Number(None, label="frames", precision=0)
        compare, run, button = gr.Checkbox(True, label="compare"), gr.Textbox("", label="run"), gr.Button()
        made = [gr.JSON(label="run"), gr.File(label="video"), gr.File(label="baseline")]
        fields = [picture, prompt, follow, *texts, seed, steps, guidance, size, frames, compare]
        button.click(api.generate, fields, made, api_name="generate", **waiting(is_public=True))
        button.click(api.repeat, run, made, api_name="repeat", **waiting(is_public=True))
        button.click(api.runs, None, gr.JSON(label="runs"), api_name="runs", **quick(is_public=True))


def _finished(run: Run) -> Answer:
    from alignvid.generate.run import ALIGNVID, BASELINE

    outputs = run.record.outputs
    video = str(run.folder / outputs[ALIGNVID]["file"])
    baseline = str(run.folder / outputs[BASELINE]["file"]) if BASELINE in outputs else None
    return {"run": run.id, "record": run.record.to_dict()}, video, baseline
