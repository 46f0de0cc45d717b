"""Which pass of classifier-free guidance a forward is, and which samples of its batch are acted on.

A pass is known by the name that the pipeline announces, by the guider of a modular one, or by what its batch holds.
Where a pipeline says nothing (HunyuanVideo I2V, FramePack), the first step of a run shows which text each pass is
given, the conditional one first; from then on the text says which pass it is, and a forward that fits neither is
unknown. How a batch is laid out is learned from the first forward of a run, too, so that it does not depend on a
guidance scale that changes on the way. A bare transformer says nothing: its caller gives the passes of a step.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.host.branches import (
    ALLOWED,
    BATCHED,
    UNCONDITIONAL_FIRST,
    Pass,
    active_samples,
    as_pass,
    batch_in,
    pass_named,
    samples_in,
)
from alignvid.host.contract import Contract
from alignvid.host.moment import Moment
from alignvid.host.registry import runner_of
from alignvid.host.run_passes import Layout, RunPasses
from alignvid.host.texts import is_equal, parts_of
from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.recipe import Branch

_RUNS_KEPT = 3
"""Whose texts are kept: the running one, one that runs in between, and the one before."""


class _Thread(threading.local):
    """What one thread has read."""

    def __init__(self) -> None:
        self.announced: str | None = None
        self.runs: dict[int, RunPasses] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Thread, ()  # a copy of an attachment has read nothing yet


class PassReader:
    """Reads the CFG branch of a forward: see above."""

    def __init__(self, pipeline: Any = None, passes: Sequence[str] = (), contract: Contract | None = None) -> None:
        """A reader of the passes of one model.

        Args:
            pipeline: what runs the model; None for a bare transformer.
            passes: those of a step in their order, where the caller of a bare transformer gives them; see
                `check_passes`.
            contract: hears where a branch is not known; one that is not strict if None.
        """
        self._pipeline = pipeline
        self._contract = contract or Contract()
        self._runner = runner_of(pipeline)
        self._passes = tuple(passes)
        self._thread = _Thread()

    @property
    def announced(self) -> str | None:
        """Name of the cache context that the pipeline has entered in this thread, such as "cond"."""
        return self._thread.announced

    def announce(self, name: str | None) -> None:
        """Note the cache context that the pipeline enters, or leaves."""
        self._thread.announced = name

    def forget(self) -> None:
        """Keep nothing of the runs that were read, in any thread."""
        self._thread = _Thread()

    def samples(self, branch: Branch, moment: Moment, host: Host, arguments: Arguments) -> bool | list[bool]:
        """Which samples of the forward at this moment are of that branch; one value if all are alike.

        A pass that cannot be known is not: warned of once a run, where a window is open.
        Raises: AttachmentError for an unknown pass of a bare transformer.
        """
        if branch == "both":
            return True
        running = self.read(moment, host, arguments)
        if running == "unknown":
            self._complain(branch, moment, host)
        declared = self._run(moment.run).declared
        return active_samples(branch, running, arguments, declared or host.family.branches(arguments))

    def prompted(
        self, branch: Branch, samples: bool | list[bool], moment: Moment, host: Host, arguments: Arguments
    ) -> bool | list[bool]:
        """Which samples of the forward at this moment are given the prompt whose words a gain in that branch acts on;
        none where the pass is not known. After `samples`, which gave what it is given.
        """
        if branch != "both":
            return samples
        running = self.read(moment, host, arguments)
        declared = self._run(moment.run).declared
        if running == "unknown":
            return False
        return active_samples("cond", running, arguments, declared or host.family.branches(arguments))

    def running(
        self, branch: Branch, samples: bool | list[bool], moment: Moment, host: Host, arguments: Arguments
    ) -> Pass:
        """The pass that the forward at this moment is. After `samples`, which gave what it is given."""
        if branch == "both":
            return self.read(moment, host, arguments)
        return "batched" if isinstance(samples, list) else branch  # where it acts on none of them, nobody asks

    def read(self, moment: Moment, host: Host, arguments: Arguments) -> Pass:
        """The pass that the forward at this moment is. Raises: AttachmentError if a bare one fits no pass given."""
        run = self._run(moment.run)
        run.declared = ()
        if moment.source != "stray":
            run.count(moment)
        text = arguments.get(host.family.time.text)
        name = self.announced or (
            self._runner.pass_name(self._pipeline, host.name, run.order) if moment.source == "own" else None
        )
        if name is None and self._passes:
            return self._declared(run, moment, host, arguments, text)
        is_silent_batch = name is None and self._pipeline is not None and bool(host.family.branches(arguments))
        if name == BATCHED or is_silent_batch:
            return self._batched(run, moment, host, arguments, text)
        if name is not None:
            run.has_names = True
            return self._learned(run, text, pass_named(name))
        return self._by_text(run, moment, text)

    def _run(self, number: int) -> RunPasses:
        runs = self._thread.runs
        if number not in runs:
            runs[number] = RunPasses()
            while len(runs) > _RUNS_KEPT:
                del runs[next(iter(runs))]
        return runs[number]

    def _by_text(self, run: RunPasses, moment: Moment, text: Any) -> Pass:
        """By its text; by its order in the first step, or where the text is missing or the same in both passes."""
        if self._pipeline is None or run.has_names:
            return as_pass(run.texts.branch_of(text))
        passes = self._runner.passes
        if run.order >= len(passes):  # as the third one of guidance by text and by picture
            return as_pass(run.texts.branch_of(text))
        by_order = as_pass(passes[run.order])
        if moment.source == "stray" or moment.step_index is None:
            return as_pass(run.texts.branch_of(text))
        if run.step == run.first_step:
            return self._learned(run, text, by_order)
        return by_order if text is None or run.texts.is_shared(text) else as_pass(run.texts.branch_of(text))

    def _learned(self, run: RunPasses, text: Any, running: Pass) -> Pass:
        if running in ("cond", "uncond"):
            run.texts.learn(text, running)
        return running

    def _declared(self, run: RunPasses, moment: Moment, host: Host, arguments: Arguments, text: Any) -> Pass:
        """As the caller said, by order; a forward beyond these, or an earlier step again, by its text."""
        known = self._text_of_any_run(text)
        order = run.order % len(self._passes) if moment.step_count == 1 else run.order
        if order >= len(self._passes):
            if known != "unknown":
                return known
            raise AttachmentError(
                f"This is forward {order + 1} of the step at noise level {moment.noise_level:.4g}, but passes="
                f"{self._passes!r} names {len(self._passes)}. Give alignvid.attach the passes of a step, in their "
                f"order: {ALLOWED}."
            )
        if known != "unknown" and run.step != run.first_step:
            return known
        parts = self._passes[order].split("+")
        if len(parts) > 1:
            if (samples := samples_in(arguments)) % len(parts):
                raise AttachmentError(
                    f"A batch of {samples} samples does not hold {len(parts)} branches in equal parts, as passes="
                    f"{self._passes!r} says. Give alignvid.attach the passes of a step: {ALLOWED}."
                )
            run.declared = tuple(parts)
            for part, branch in zip(parts_of(text, len(parts)), parts, strict=False):
                run.texts.learn(part, branch)
            return "batched"
        return self._learned(run, text, as_pass(parts[0]))

    def _text_of_any_run(self, text: Any) -> Pass:
        branches = (run.texts.branch_of(text) for run in reversed(self._thread.runs.values()))
        return as_pass(next((branch for branch in branches if branch is not None), None))

    def _batched(self, run: RunPasses, moment: Moment, host: Host, arguments: Arguments, text: Any) -> Pass:
        """A batch that may hold all branches; how it is laid out is learned from the first forward of a run."""
        parts = host.family.branches(arguments) or UNCONDITIONAL_FIRST
        samples = samples_in(arguments)
        if callable(host.family.time.batch_order) and host.family.branches(arguments):  # it is counted in the arguments
            return "batched"
        layout = run.layouts.get(host.name)
        if layout is None:
            is_batched = self._is_guided(moment, len(parts), arguments)
            if moment.source == "stray":
                return "batched" if is_batched else "unknown"
            layout = run.layouts[host.name] = Layout(samples, is_batched)
            pairs = zip(parts_of(text, len(parts)), parts, strict=False) if is_batched else [(text, "cond")]
            for part, branch in pairs:
                run.texts.learn(part, branch)
        if samples == layout.samples and moment.source != "stray":
            return "batched" if layout.is_batched else "cond"
        found = [run.texts.branch_of(part) for part in parts_of(text, len(parts))]
        if samples == layout.samples and layout.is_batched:
            return "batched" if found == list(parts) else "unknown"
        if layout.is_batched:  # one branch alone, as where guidance ends early or a third pass skips layers
            return as_pass(run.texts.branch_of(text)) if samples * len(parts) == layout.samples else "unknown"
        if samples == layout.samples:
            return as_pass(run.texts.branch_of(text))
        has_begun = samples == len(parts) * layout.samples and len(found) == len(parts)
        return "batched" if has_begun and found[parts.index("cond")] == "cond" else "unknown"

    def _is_guided(self, moment: Moment, parts: int, arguments: Arguments) -> bool:
        """Whether a batch that may hold all branches does: as the pipeline says; else if all parts have one noise."""
        if self._pipeline is None:  # its caller has announced that it does
            return samples_in(arguments) % parts == 0
        says = self._runner.is_guided(self._pipeline) if moment.source == "own" else None
        if says is not None:
            return says
        first, *others = parts_of(batch_in(arguments), parts) or [None]
        return bool(others) and len(first) > 0 and all(is_equal(first, part) for part in others)

    def _complain(self, branch: Branch, moment: Moment, host: Host) -> None:
        if self._pipeline is None:
            raise AttachmentError(
                f"A gain in the {branch} branch needs to know which pass of guidance a forward is, and "
                f"{type(host.transformer).__name__} alone does not say. Give alignvid.attach the passes of a step in "
                f"their order, passes={UNCONDITIONAL_FIRST[::-1]!r} for example ({ALLOWED}); attach to the pipeline; "
                "or choose branch='both'."
            )
        if moment.is_in_window:
            why = (
                "it is not a forward of the running step"
                if moment.source == "stray"
                else "its text is none of those of the first step"
            )
            self._contract.warn(
                "unknown branch",
                f"Which branch of guidance a forward of {type(host.transformer).__name__} is (step "
                f"{moment.step_index}, noise level {moment.noise_level:.4g}) is not known: {why}. AlignVid acts in the "
                f"{branch} branch alone, so that this forward runs without a gain. Give it the text of a pass, or "
                "choose branch='both'.",
                once_in=(branch, moment.run),
            )
