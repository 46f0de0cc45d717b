"""Where runs are made: one model, kept loaded, for one run at a time, each in a folder of its own."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alignvid.app.attempts import Attempted, write_attempts
from alignvid.app.form import Form, spec_of, words_of
from alignvid.app.judging import JudgeChoice, judge_of
from alignvid.app.runs import Run, new_id, run_named
from alignvid.files import writable_folder

if TYPE_CHECKING:
    from alignvid.following import Followed
    from alignvid.generate import GenerationSpec, Model
    from alignvid.generate.loading import ModelSource

_LOOK_EVERY_S = 0.2
_READ_BY_EVENTS = ("alignvid.generate", "alignvid.following", "alignvid.miniature")
"""What reads the model libraries, and is imported where something on the page asks for it."""
_ATTENTION = "attention"
"""Folder, in that of a run, of the same run observed."""
Report = Callable[[object], None]
"""Called with every `Progress`; it may raise to end the run."""


class Waiting(NamedTuple):
    """Reported while the run of another user has the model."""


class Loading(NamedTuple):
    """Reported while libraries or the page's own model are read."""


class Again(NamedTuple):
    """A run that was repeated."""

    run: Run
    is_equal: bool
    """Whether every frame is that of the first one."""


class Look(NamedTuple):
    """What a run's videos attended to."""

    run: Run
    word: str
    page: str
    """Where it is on the page's server."""
    folder: Path
    files: tuple[str, ...]
    """The videos under the word's map, in the folder."""


class Workshop:
    """The runs of one folder, and the model that makes them."""

    def __init__(self, root: Path, shared: Mapping[str, Any], judge: JudgeChoice | None = None) -> None:
        """Begin without a model.

        Args:
            root: Folder of all runs; made if it is missing.
            shared: Fields of every spec, such as model and device.
            judge: Who says whether a prompt is followed; the rule unless given.

        Raises: OutputError if nothing can be written there.
        """
        self.root = writable_folder(root).resolve()
        self._shared = dict(shared)
        self._judge = judge or JudgeChoice()
        self._model: Model | None = None
        self._key: tuple[object, ...] = ()
        self._busy = threading.Lock()
        self._is_warming = False
        self._has_read = threading.Event()
        self._has_read.set()  # until `begin_to_read`

    @property
    def model_name(self) -> str:
        """The model where the form names none."""
        return self._shared.get("model") or "miniature"

    @property
    def max_pixels(self) -> int:
        """Limit on a picture."""
        from alignvid.media.images import MAX_PIXELS

        return self._shared.get("max_pixels") or MAX_PIXELS

    def begin_to_read(self) -> None:
        """From now on whoever needs the libraries waits until `read` has read them."""
        self._has_read.clear()

    def read(self, on_loading: Callable[[], None]) -> None:
        """Read the libraries, and look whether the model is there that the form has where it names none.

        transformers reads its parts when they are asked for, and fails where two threads ask: hence `wait_until_read`.

        Raises: InputError if there is no such model; UnsupportedModel if no family describes it.
        """
        try:
            on_loading()
            for name in _READ_BY_EVENTS:
                import_module(name)
        finally:
            self._has_read.set()
        from alignvid.generate.loading import find_model

        find_model(self.model_name)

    def wait_until_read(self, report: Report = lambda seen: None) -> None:
        """Wait for the libraries, where they are being read."""
        while not self._has_read.wait(_LOOK_EVERY_S):
            report(Loading())

    def warm_up(self) -> None:
        """Read the libraries and the model, so that the first run need not."""
        from alignvid.generate import GenerationSpec

        spec = GenerationSpec(prompt="a", **self._shared)
        with self._warming():
            self._load(spec, lambda seen: None, is_checked=True)  # there is no run yet that could be checked

    @contextmanager
    def _warming(self) -> Iterator[None]:
        """A run that is asked for meanwhile waits, and is not kept from the model by another one."""
        with self._busy:
            self._is_warming = True
            try:
                yield
            finally:
                self._is_warming = False

    def make(self, form: Form, report: Report, *, compare: bool = True) -> Run:
        """A new run.

        Raises: AlignvidError saying what is wrong; the folder of the run is not there then.
        """
        self.wait_until_read(report)
        from alignvid.generate import generate
        from alignvid.report.rows import comparison_files

        spec, id = spec_of(form, self._shared), new_id()
        with self._lent(spec, report) as model:
            watched = {"companions": comparison_files, "on_progress": report}
            generate(spec, self.root / id, compare=compare, model=model, **watched)
        return run_named(self.root, id)

    def repeat(self, id: str, report: Report) -> Again:
        """The same run again, from its record.

        Raises: AlignvidError if its record or its picture is gone or was changed.
        """
        self.wait_until_read(report)
        from alignvid.generate import repeat
        from alignvid.generate.run import BASELINE
        from alignvid.report.rows import comparison_files

        first, new = run_named(self.root, id), new_id()
        with self._lent_for(first, report) as model:
            compare = BASELINE in first.record.outputs
            watched = {"companions": comparison_files, "on_progress": report}
            repeat(first.folder, self.root / new, compare=compare, model=model, **watched)
        again = run_named(self.root, new)
        return Again(again, _frames(again) == _frames(first))

    def follow(self, form: Form, questions: str, budget: int, report: Report) -> tuple[Run, Followed]:
        """Attempts with new noise until the judge says that the prompt is followed; `Attempted` is reported of each.

        Raises: AlignvidError saying what is wrong; finished attempts stay.
        """
        self.wait_until_read(report)
        from alignvid.following import Attempt, generate_until_followed
        from alignvid.generate.plan import plan

        spec, id, attempts = spec_of(form, self._shared), new_id(), list[Attempt]()

        def on_attempt(attempt: Attempt) -> None:
            attempts.append(attempt)
            write_attempts(self.root / id, attempts)
            report(Attempted(id, attempt.number, str(attempt)))

        with self._lent(spec, report) as model:
            asked = judge_of(plan(spec, source=model.source), questions, self._judge)
            watched = {"on_progress": report, "on_attempt": on_attempt}
            limits = {"questions": asked.questions, "budget": budget}
            found = generate_until_followed(spec, self.root / id, judge=asked.judge, model=model, **limits, **watched)
        write_attempts(self.root / id, attempts, found)
        return run_named(self.root, id), found

    def look(self, id: str, word: str, report: Report) -> Look:
        """Where the videos of a run attended to a word: the run is made again and observed, once for all its words.

        Raises: AlignvidError if its words cannot be found among its model's tokens, or its record is gone.
        """
        self.wait_until_read(report)
        from alignvid.generate import ObservationSpec, repeat
        from alignvid.generate.run import BASELINE
        from alignvid.report.attention import write_word_page

        run = run_named(self.root, id)
        observed = run.folder / _ATTENTION
        if not (observed / "record.json").is_file():
            observation = ObservationSpec(words=tuple(words_of(run.record.spec["prompt"])))
            with self._lent_for(run, report) as model:
                watched = {"observation": observation, "on_progress": report}
                repeat(run.folder, observed, compare=BASELINE in run.record.outputs, model=model, **watched)
        page = write_word_page(observed, word)
        files = tuple(sorted(file.name for file in observed.glob(f"{page.stem}-*")))
        return Look(run, word, f"{run.place}/{_ATTENTION}/{page.name}", observed, files)

    @contextmanager
    def _lent(self, spec: GenerationSpec, report: Report, *, is_checked: bool = False) -> Iterator[Model]:
        while not self._busy.acquire(timeout=_LOOK_EVERY_S):
            report(Loading() if self._is_warming else Waiting())
        try:
            yield self._load(spec, report, is_checked=is_checked)
        finally:
            self._busy.release()

    @contextmanager
    def _lent_for(self, run: Run, report: Report) -> Iterator[Model]:
        """The model of a record, whose picture lies beside it and no longer where it was uploaded."""
        from alignvid.generate import GenerationSpec

        spec = GenerationSpec.from_dict({**run.record.spec, "dtype": run.record.machine["dtype"]})
        with self._lent(spec, report, is_checked=True) as model:
            yield model

    def _load(self, spec: GenerationSpec, report: Report, *, is_checked: bool) -> Model:
        from alignvid.generate import load_model
        from alignvid.generate.device import choose_device
        from alignvid.generate.loading import find_model
        from alignvid.generate.plan import plan
        from alignvid.generate.progress import Progress

        source = self._model.source if self._model and self._model.source.name == spec.model else find_model(spec.model)
        key = _key(source, choose_device(spec.device, spec.dtype, spec.offload).to_dict())
        if self._model is None or key != self._key:
            if not is_checked:
                plan(
                    spec, source=source
                )  # what is wrong is said before minutes of loading, and before another model goes
            report(Progress("loading"))
            self._give_up()
            self._model, self._key = load_model(source, spec, show_progress=False), key
        return self._model

    def _give_up(self) -> None:
        """Two models seldom fit in one memory."""
        import torch

        self._model, self._key = None, ()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _key(source: ModelSource, device: Mapping[str, Any]) -> tuple[object, ...]:
    return (source.location, *device.values())


def _frames(run: Run) -> dict[str, str]:
    return {role: output["frames_sha256"] for role, output in run.record.outputs.items()}
