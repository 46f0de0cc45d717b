"""An observation in force on a model: the hooks, what they overhear, and how they are removed."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alignvid.analysis.heard_door import HeardDoor
from alignvid.analysis.maps import frame_grid
from alignvid.analysis.recorder import ForwardPlace, Passage, Recorder
from alignvid.analysis.sites import ObservedSite, softmaxes_of
from alignvid.analysis.softmaxes import SoftmaxEar
from alignvid.analysis.trace import Trace
from alignvid.attachment.gated import gate_of
from alignvid.errors import ObservationError
from alignvid.host.branches import UNCONDITIONAL_FIRST
from alignvid.host.clock import StepClock
from alignvid.host.contexts import HeardContexts
from alignvid.host.passes import PassReader
from alignvid.host.registry import runner_of
from alignvid.host.sites import Inserted, holder_of
from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.models.paths import descend

_MOST_BYTES_WAITING = 32 << 20  # of queries and keys; enough for a small model's whole forward


class Observation:
    """Observes while its block runs. Entering gives the trace; leaving removes every hook, also on an error."""

    def __init__(
        self,
        model: Any,
        trace: Trace,
        observed: Sequence[Host],
        sites: Sequence[ObservedSite],
        clock: StepClock,
        recorder: Recorder,
    ) -> None:
        """Prepared, nothing touched; use `alignvid.observe`.

        Args:
            model: what runs the transformers: a pipeline, or a transformer itself.
            trace: what entering gives.
            observed: the transformers.
            sites: their attentions to observe.
            clock: knows the step window.
            recorder: what is done with each pass through an attention.
        """
        self.trace = trace
        self._hosts = observed
        self._sites = sites
        self._recorder, self._has_recorded = recorder, False
        self._clock, self._passes, self._ear = clock, PassReader(clock.pipeline), SoftmaxEar()
        self._handles: list[RemovableHandle] = []
        self._inserted = [
            Inserted(*holder_of(site.attention, keys), norm)
            for site in sites
            for keys, norm in zip(site.keys, site.norms, strict=True)
            if descend(site.attention, keys.path) is None
        ]
        self._contexts: list[HeardContexts] = []
        runner = runner_of(model)
        self._door = None if runner.door is None else HeardDoor(model, runner, runner.door, self._by_door, self._record)
        self._place: ForwardPlace | None = None
        self._site: ObservedSite | None = None
        self._normed: dict[int, Tensor] = {}
        self._waiting: list[Passage] = []

    def __enter__(self) -> Trace:
        try:
            for neutral in self._inserted:
                neutral.put_in()
            for host in self._hosts:
                self._watch_transformer(host)
            for site in self._sites:
                self._watch_site(site)
            if self._door is not None:
                self._door.put_on()
        except BaseException:
            self._remove()
            raise
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()
        self._record()
        if kind is None and not self._has_recorded:
            names = ", ".join(host.name for host in self._hosts)
            raise ObservationError(
                f"Nothing was observed: {names} ran no forward in {self._clock.window}; run the pipeline inside the "
                "with block, and choose steps that it takes."
            )

    def _watch_transformer(self, host: Host) -> None:
        if self._door is None:
            hook = partial(self._by_call, host, inspect.signature(type(host.transformer).forward))
            self._handles.append(host.transformer.register_forward_pre_hook(hook, with_kwargs=True))
            self._handles.append(host.transformer.register_forward_hook(lambda *_: self._record()))
        self._handles += host.family.watch(self._clock.pipeline)
        contexts = HeardContexts(host.transformer, self._passes.announce)
        contexts.put_on()
        self._contexts.append(contexts)

    def _watch_site(self, site: ObservedSite) -> None:
        enter, leave = partial(self._enter_site, site), partial(self._leave_site, site)
        self._handles.append(site.attention.register_forward_pre_hook(enter))
        self._handles.append(site.attention.register_forward_hook(leave, always_call=True))
        for index, norm in enumerate(site.norms):
            self._handles.append(norm.register_forward_hook(partial(self._keep_keys, index)))

    def _remove(self) -> None:
        self._stop_listening()
        if self._door is not None:
            self._door.take_off()
        while self._handles:
            self._handles.pop().remove()
        for neutral in self._inserted:
            neutral.take_out()
        while self._contexts:
            self._contexts.pop().take_off()

    def _by_call(
        self, host: Host, signature: inspect.Signature, transformer: nn.Module, args: Any, kwargs: Any
    ) -> None:
        self._begin_forward(host, signature.bind_partial(None, *args, **kwargs).arguments)

    def _by_door(self, transformer: nn.Module, arguments: Arguments) -> None:
        self._place = None
        for host in self._hosts:
            if host.transformer is transformer:
                self._begin_forward(host, arguments)

    def _begin_forward(self, host: Host, arguments: Arguments) -> None:
        self._place = None
        if host.family.prepares(arguments):
            return
        moment = self._clock.read(host, arguments)
        running = self._passes.read(moment, host, arguments)
        if moment.is_in_window:
            self._place = ForwardPlace(
                section=max(moment.run - 1, 0),
                step=-1 if moment.step_index is None else moment.step_index,
                noise_level=moment.noise_level,
                running=running,
                batch_order=host.family.branches(arguments) or UNCONDITIONAL_FIRST,
                token_counts=self._token_counts(host, arguments),
                grid=frame_grid(host, arguments) if self._recorder.needs_grid else (1, 1),
            )
        if (gate := gate_of(host)) is not None:
            attached = {"name": gate.name, "recipe": gate.recipe.to_dict()}
            self.trace.origin["attached"][host.name] = attached

    def _token_counts(self, host: Host, arguments: Arguments) -> dict[str, int]:
        """Tokens by stream; where vision cannot be distinguished from text, all are text, and the trace says so."""
        counts = host.family.token_counts(host.transformer, arguments)
        streams = {stream for site in self._sites for keys in site.keys for stream in keys.streams}
        untold = next((name for name, count in counts.items() if count is None and name in streams), None)
        problem = (
            f"{untold} was not distinguished from text: the prompt was encoded before the observation began, or its "
            "tokens lie elsewhere in each prompt of a batch."
        )
        if untold is not None and problem not in self.trace.problems:
            self.trace.problems.append(problem)
        mixed = host.family.warning(arguments, streams)
        if mixed and mixed not in self.trace.problems:
            self.trace.problems.append(mixed)
            warnings.warn(mixed, stacklevel=2)
        return {name: count or 0 for name, count in counts.items()}

    def _enter_site(self, site: ObservedSite, attention: nn.Module, args: Any) -> None:
        if self._place is not None:
            self._site = site

    def _keep_keys(self, index: int, norm: nn.Module, args: Any, output: Tensor) -> None:
        if self._site is None:
            return
        if not self._normed:  # listening slows every operation down, so it begins with the first keys
            self._ear.__enter__()
        self._normed[index] = output

    def _leave_site(self, site: ObservedSite, attention: nn.Module, args: Any, output: Any) -> None:
        if self._site is None or self._place is None:
            return
        calls, normed = self._ear.calls, self._normed
        self._stop_listening()
        if output is None:  # the attention itself failed
            return
        self._waiting.append(Passage(site, softmaxes_of(site, calls, normed, self._place.token_counts), self._place))
        if sum(passage.byte_count for passage in self._waiting) > _MOST_BYTES_WAITING:
            self._record()

    def _stop_listening(self) -> None:
        """An interrupt inside an attention skips its hook, so that the end of the block does this, too."""
        if self._normed:
            self._ear.__exit__(None, None, None)
        self._site, self._ear.calls, self._normed = None, [], {}

    def _record(self) -> None:
        """Hand over what is waiting, in the order in which it happened."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._has_recorded = True
            self._recorder.record(waiting)
