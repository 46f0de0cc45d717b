"""The patch that an AlignVid node puts on a MODEL: two wrappers of ComfyUI, and the attachment that they switch.

The attachment is on the model in the forwards of this MODEL and of its clones alone: put back before each, withdrawn
after it, also on an error or an interruption. So the base MODEL and other branches of a graph never meet it, and what
loads, casts, patches or compiles the model in between sees it as it is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from torch import nn

import alignvid
from alignvid.attachment.attachment import Attachment
from alignvid.errors import AttachmentError, ContractWarning
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

from .host import Lent, Run, as_noise

logger = logging.getLogger(__name__)

KEY = "alignvid"
"""Of the wrappers, by which a node finds the patch of a MODEL again."""
_SAMPLE, _FORWARD = "outer_sample", "apply_model"  # comfy.patcher_extension.WrappersMP, which the tests compare
InPart = Callable[[Lent, StepWindow], Attachment]
_OURS = str(Path(alignvid.__file__).parent)


class Patch:
    """An attachment, and what its runs did."""

    def __init__(
        self, model: nn.Module, attach: Callable[[Lent], Attachment], *, measures: bool, in_part: InPart | None = None
    ) -> None:
        """Laid over the model once, so that what does not fit is refused now; then withdrawn.

        Args:
            model: ComfyUI's BaseModel.
            attach: attaches to a model; asked once for each that the MODEL's clones run, mostly one.
            measures: whether its attachments take a proof in each run.
            in_part: attaches with another window, where a sampler runs a part of a schedule alone; None where the
                window is the user's own.
        """
        self._attach, self.measures, self._in_part = attach, measures, in_part
        self._in_parts: WeakKeyDictionary[nn.Module, Attachment] = WeakKeyDictionary()
        self._lent: WeakKeyDictionary[nn.Module, tuple[Lent, Attachment]] = WeakKeyDictionary()
        self.attachment = self._lent_to(model)[1]
        self.run: Run | None = None
        """The last run, or the one that is running."""
        self._guider: Any = None

    @property
    def recipe(self) -> Recipe:
        """What is in force."""
        return self.attachment.recipe

    @property
    def is_as_noise(self) -> bool:
        """Whether the preset's window, in fractions of the steps, is taken as one of noise levels."""
        return any(self.attachment is made for made in self._in_parts.values())

    def _lent_to(self, model: nn.Module) -> tuple[Lent, Attachment]:
        if model not in self._lent:
            lent = Lent(model)
            attachment = self._attach(lent)
            attachment.withdraw()
            self._lent[model] = lent, attachment
        return self._lent[model]

    def around_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """One call of a sampler: whatever it does belongs to one run."""
        self.run, self._guider = None, executor.class_obj
        try:
            output = executor(*args, **kwargs)
        except BaseException as error:
            self._close(f"stopped by {type(error).__name__}")
            raise
        self._close("completed")
        return output

    def _close(self, state: str) -> None:
        if self.run is not None:
            self.run.state = state
        for lent, _ in self._lent.values():
            lent.run, lent.options, lent.guider = None, {}, None
        self._guider = None

    def around_forward(
        self,
        executor: Any,
        x: Any,
        t: Any,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        """One forward of the model, with the attachment on it."""
        options = {} if transformer_options is None else transformer_options
        model = executor.class_obj
        lent, attachment = self._lent_to(model)
        run = self._run_of(options, t, model)
        step = run.step_of(float(t.flatten()[0]))
        lent.run, lent.options, lent.guider = run, options, self._guider
        self.attachment = attachment = self._for_part(lent, attachment, model) if run.is_slice else attachment
        self._note_lazy_cache(run, options)
        run.steps.add(step)
        run.forwards += 1
        if not self._reaches(run):
            return executor(x, t, c_concat, c_crossattn, control, options, **more)
        given = {"x": x, "timestep": run.timesteps[step : step + 1], "context": c_crossattn, "control": control}
        before = attachment.acted_count, attachment.active_forward_count
        with self._on_model(attachment, run):
            output = lent.apply(
                run=lambda: executor(x, t, c_concat, c_crossattn, control, options, **more),
                **given,
                transformer_options=options,
                **more,
            )
        acted, active = attachment.acted_count - before[0], attachment.active_forward_count - before[1]
        run.active_forwards, run.acted = run.active_forwards + active, run.acted + acted
        if acted:
            run.active_steps.add(step)
        return output

    def _run_of(self, options: dict[str, Any], t: Any, model: Any) -> Run:
        """The run that a forward belongs to. Raises: AttachmentError if no sampler says its schedule."""
        sigmas = options.get("sample_sigmas")
        if sigmas is None:
            raise AttachmentError(
                f"The model was run at sigma {float(t.flatten()[0]):.4g} by something that does not say its schedule "
                "(no sample_sigmas), so that the step is not known: sample with a core sampler, or take the AlignVid "
                "node out."
            )
        if self.run is None or not self.run.has(sigmas):
            self.run = Run.of(sigmas, model.model_sampling)
        return self.run

    def _for_part(self, lent: Lent, whole: Attachment, model: Any) -> Attachment:
        """With the preset's window as one of noise levels, which is the same in each part of a schedule; `whole` where
        the window is the user's own, or is none of fractions.
        """
        window, is_one = whole.recipe.steps, len(whole.recipe.parts) == 1
        if self._in_part is None or not is_one or window.unit != "fraction" or window.is_all_or_none:
            return whole
        wanted, made = as_noise(window, model.model_sampling), self._in_parts.get(model)
        if made is None or made.recipe.steps != wanted:
            made = self._in_parts[model] = self._in_part(lent, wanted)
            made.withdraw()
        return made

    def _reaches(self, run: Run) -> bool:
        """Whether a part of a schedule has steps of the windows: in a whole one, the nearest step acts at least."""
        windows = [part.steps for part in self.recipe.parts]
        inside = (window.unit != "noise" or any(map(window.contains, run.levels)) for window in windows)
        return not run.is_slice or any(inside)

    @contextmanager
    def _on_model(self, attachment: Attachment, run: Run) -> Iterator[None]:
        attachment.put_back()
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
        finally:
            attachment.withdraw()
            _sort(caught, run.notes)

    def _note_lazy_cache(self, run: Run, options: dict[str, Any]) -> None:
        if getattr(options.get("easycache"), "name", "") == "LazyCache":
            _note(
                run.notes,
                "LazyCache leaves out whole steps before AlignVid sees them: at the edges of the window it may hand on "
                "what it kept with another gain. EasyCache forgets there; use that one.",
            )


def _sort(caught: list[warnings.WarningMessage], notes: list[str]) -> None:
    """Ours are noted and logged once a run, wherever they point; those of others are given back."""
    for warning in caught:
        text = str(warning.message)
        if issubclass(warning.category, ContractWarning) or warning.filename.startswith(_OURS):
            _note(notes, text)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
        logger.warning("AlignVid: %s", text)


def patch_of(patcher: Any) -> Patch | None:
    """The patch that a MODEL carries; None if it carries none."""
    found = patcher.get_wrappers(_FORWARD, KEY)
    return cast(Patch, found[-1].__self__) if found else None


def patched(
    patcher: Any, attach: Callable[[Lent], Attachment], *, measures: bool = False, in_part: InPart | None = None
) -> tuple[Any, Patch]:
    """A clone of a MODEL with an attachment in its forwards, as `Patch` describes. The given one is left as it is.

    Raises: AttachmentError if it has one already; whatever `attach` raises.
    """
    if patch_of(patcher) is not None:
        raise AttachmentError(
            "This MODEL has been through an AlignVid node already: use one for each branch. For several modulations at "
            "once write them into one recipe (AlignVid Recipe)."
        )
    patch = Patch(patcher.model, attach, measures=measures, in_part=in_part)
    clone = patcher.clone()
    clone.add_wrapper_with_key(_SAMPLE, KEY, patch.around_sample)
    clone.add_wrapper_with_key(_FORWARD, KEY, patch.around_forward)
    return clone, patch
