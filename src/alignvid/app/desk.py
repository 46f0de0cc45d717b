"""What happens when something on the page is clicked. What goes wrong is said in place, and the form stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from alignvid.app import views
from alignvid.app.attempts import Attempted
from alignvid.app.form import Form, toggled
from alignvid.app.runs import Run, newest_runs, run_named
from alignvid.app.watching import Cancelled, Watched
from alignvid.app.workshop import Look, Report, Workshop
from alignvid.errors import AlignvidError

logger = logging.getLogger(__name__)

_OF_THE_PAGE = {
    "give one with --image": "put one into the form",
    "raise the limit with --max-pixels": "start the page with --max-pixels",
    "For a photo name a large model with --model.": "For a photo name a large model under Settings.",
}
"""What messages say to a command line, and what that is here."""

Shown = tuple[Any, ...]
"""New values of the status, the result, the words to look at, the history and the run at hand."""


class Desk:
    """The events of the page. One run at a time for each of its users; the queue gives the model to one of them."""

    def __init__(self, shop: Workshop) -> None:
        """Args: shop: where runs are made."""
        self._shop = shop
        self._running: dict[str, Watched] = {}

    def make(self, request: gr.Request, compare: bool, *fields: Any) -> Iterator[Shown]:
        """Make the video that the form asks for."""
        form = form_of(fields)
        made = lambda report: self._shop.make(form, report, compare=compare)  # noqa: E731  # one line, one use
        yield from self._shown(request, made, self._made, picture=form.picture)

    def open(self, event: gr.EventData) -> Shown:
        """A run of the history."""
        self._shop.wait_until_read()
        try:
            return self._made(run_named(self._shop.root, str(event.value)))
        except AlignvidError as error:
            return _status(views.said(worded(error, None), "error"))

    def repeat(self, request: gr.Request, event: gr.EventData) -> Iterator[Shown]:
        """A run of the history again."""
        again = lambda report: self._shop.repeat(str(event.value), report)  # noqa: E731
        yield from self._shown(request, again, lambda done: self._made(done.run, _again(done.is_equal)))

    def follow(self, request: gr.Request, questions: str, budget: float, *fields: Any) -> Iterator[Shown]:
        """Attempts until the prompt is followed, as they come."""
        form = form_of(fields)
        follow = lambda report: self._shop.follow(form, questions, int(budget), report)  # noqa: E731
        yield from self._shown(request, follow, lambda done: self._made(done[0], f"{done[1]}".capitalize() + "."))

    def look(self, request: gr.Request, id: str, event: gr.EventData) -> Iterator[Shown]:
        """Where the videos of the run at hand attended to the word that was clicked on."""
        look = lambda report: self._shop.look(id, str(event.value), report)  # noqa: E731
        yield from self._shown(request, look, _looked)

    def cancel(self, request: gr.Request) -> Any:
        """End this user's run after its present step."""
        if watched := self._running.get(str(request.session_hash)):
            watched.cancel()
            return views.said("Cancelled: it ends after the step at hand, and nothing of it is kept.")
        return views.said("Nothing of yours runs or waits any more.")

    def check(self, picture: str | None) -> str:
        """What is wrong with a picture, or what was noticed in it; nothing where it is fine."""
        from alignvid.media.images import read_image

        if picture is None:
            return ""
        try:
            notes = read_image(picture, max_pixels=self._shop.max_pixels).notes
        except AlignvidError as error:
            return views.said(worded(error, picture), "error")
        return "".join(views.said(_named(note, picture)) for note in notes)

    def pick(self, words: str, prompt: str, event: gr.EventData) -> tuple[str, str]:
        """A word that was clicked on gets a weight, or loses it."""
        changed = toggled(words, str(event.value))
        return changed, views.words_to_pick(prompt, changed)

    def history(self) -> str:
        """The runs on disk."""
        self._shop.wait_until_read()
        return views.history(newest_runs(self._shop.root))

    def scene(self, number: int) -> tuple[Image.Image, str, int, str, str]:
        """A picture that the miniature knows, with a prompt for it; the next number; and what belongs to the prompt."""
        self._shop.wait_until_read()
        picture, prompt = made_scene(number)
        return picture, prompt, number + 1, views.words_to_pick(prompt, ""), ""

    def _made(self, run: Run, note: str = "") -> Shown:
        seconds = sum(value for name, value in run.record.timings.items() if name != "load_s")
        text = note or f"Done in {seconds:.1f} s."
        runs = views.history(newest_runs(self._shop.root), run.id)
        return views.said(text, "done"), views.result(run), views.words_to_look_at(run), runs, run.id

    def _shown(
        self,
        request: gr.Request,
        work: Callable[[Report], Any],
        show: Callable[[Any], Shown],
        *,
        picture: str | None = None,
    ) -> Generator[Shown, None, None]:
        """Work in a thread, and what it reports meanwhile; a user who closes the page ends it."""
        session, watched = str(request.session_hash), Watched()
        self._running[session] = watched
        steps = watched.run(lambda: work(watched.report))
        try:
            done = yield from _progress(steps)
            yield show(done)
        except Cancelled:
            yield _status(views.said("Cancelled; nothing of it was kept."))
        except AlignvidError as error:
            yield _status(views.said(worded(error, picture), "error"))
        except Exception as error:  # the outer loop of a run: its crash must not lose the page
            logger.exception("a run failed")
            yield _status(views.said(f"The run failed: {type(error).__name__}: {error}", "error"))
        finally:
            steps.close()
            self._running.pop(session, None)


FIELDS = (
    *("picture", "prompt", "strength", "follow", "words", "preset", "model", "negative_prompt"),
    *("seed", "steps", "guidance", "size", "frames"),
)
"""Of the form, in the order in which the page gives them."""


def form_of(values: tuple[Any, ...]) -> Form:
    """The form with what stands in the page's fields."""
    named = dict(zip(FIELDS, values, strict=True))
    given: dict[str, Any] = {name: "" if value is None and name in _TEXTS else value for name, value in named.items()}
    return Form(**given)


_TEXTS = ("prompt", "words", "preset", "model", "negative_prompt", "size")
"""Fields that are never None."""


def worded(error: AlignvidError, picture: str | None) -> str:
    """An error in the words of the page: no options of a command line, no folders of the server."""
    text = _named(str(error), picture)
    for said, meant in _OF_THE_PAGE.items():
        text = text.replace(said, meant)
    return text


def made_scene(number: int) -> tuple[Image.Image, str]:
    """A picture of coloured shapes that the miniature never saw in training, and a prompt that asks for an edit."""
    from alignvid.miniature.drawing import first_frame
    from alignvid.miniature.prompts import evaluation_prompt
    from alignvid.miniature.scenes import HELD_OUT, sample_scene

    seed = HELD_OUT[number % len(HELD_OUT)]
    scene = sample_scene(seed)
    return Image.fromarray(first_frame(scene)), evaluation_prompt(scene, seed)


def _progress(steps: Generator[object, None, Any]) -> Generator[Shown, None, Any]:
    while True:
        try:
            seen = next(steps)
        except StopIteration as end:
            return end.value
        if isinstance(seen, Attempted):
            yield views.said(f"{seen.text}."), views.attempts(seen), "", gr.skip(), ""
        else:
            yield _status(views.progress_bar(seen))  # type: ignore[arg-type]  # a Progress: what a workshop reports


def _status(html: str) -> Shown:
    """The status alone changes."""
    return html, *(gr.skip() for _ in range(4))


def _looked(look: Look) -> Shown:
    text = f"Where the videos looked at “{look.word}”."
    return views.said(text, "done"), gr.skip(), views.words_to_look_at(look.run, look), gr.skip(), gr.skip()


def _again(is_equal: bool) -> str:
    return "Repeated: every frame is equal." if is_equal else "Repeated, but its frames differ: see both records."


def _named(text: str, picture: str | None) -> str:
    return text if picture is None else text.replace(picture, Path(picture).name)
