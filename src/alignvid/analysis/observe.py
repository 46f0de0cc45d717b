"""Record what attention does in a run, and change nothing: `with alignvid.observe(pipe) as trace:`.

Hooks on the observed attentions tell which one is running, hooks on their key norms tell how many keys each stream
has, and the attention call itself is overheard (softmaxes.py). All of it is gone when the block ends. What is measured
are the queries and keys as the softmax sees them: after norm, rotary embedding and, if attached, the gain.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alignvid.analysis.maps import ChosenKeys, patch_grid
from alignvid.analysis.origin import origin_of
from alignvid.analysis.problems import ObservationError
from alignvid.analysis.recorder import ForwardPlace, facts_of, is_finite, maps_of
from alignvid.analysis.sites import ObservedSite, observed_sites, softmaxes_of
from alignvid.analysis.softmaxes import SoftmaxEar
from alignvid.analysis.trace import Trace
from alignvid.gates import attachment_of
from alignvid.models.registry import Host, hosts
from alignvid.schedule import BlockSet, StepWindow
from alignvid.steps import PassReader, StepClock


def observe(
    pipe_or_transformer: Any,
    *,
    blocks: BlockSet | str | Iterable[int] | Mapping[str, Any] = "all",
    steps: StepWindow | tuple[float, float] | str = "all",
    per_head: bool = False,
    maps: Mapping[str, tuple[str, Sequence[int]]] | None = None,
) -> Observation:
    """Record entropy, mass per stream, energy, variance and dH/dγ of the attention, per block, step and CFG branch.

    Works with and without an attachment. Outputs are bit-equal to those of an unobserved run.

    Args:
        pipe_or_transformer: a diffusers pipeline, or its transformer alone.
        blocks: [0, 2], "0,2-7", "first-half", "all", or one of these per stack.
        steps: (start, stop) in fractions of the steps, or a StepWindow such as `StepWindow.noise_above(0.9)`.
        per_head: keep every head's value instead of the mean over heads.
        maps: attention maps to make, by a name of your own: the stream of the chosen keys and their positions in it,
            such as {"cat": ("text", [3])}.

    Returns: a context manager that gives the `Trace` and fills it while the model runs.
    Raises: UnsupportedModel, UnknownTarget, ScheduleError or ObservationError; then the model is untouched.
    """
    pipeline = None if isinstance(pipe_or_transformer, nn.Module) else pipe_or_transformer
    return Observation(
        hosts(pipe_or_transformer),
        pipeline,
        BlockSet.of(blocks),
        StepWindow.of(steps),
        per_head,
        {name: ChosenKeys(*choice) for name, choice in (maps or {}).items()},
    )


class Observation:
    """Observes while its block runs. Entering gives the trace; leaving removes every hook, also on an error."""

    def __init__(
        self,
        observed: Sequence[Host],
        pipeline: Any,
        blocks: BlockSet,
        steps: StepWindow,
        per_head: bool,
        chosen: Mapping[str, ChosenKeys],
    ) -> None:
        """Prepared, nothing touched; use `alignvid.observe`."""
        self.trace = Trace(origin_of(observed, blocks, steps))
        self._hosts = observed
        self._sites = [site for host in observed for site in observed_sites(host, pipeline, blocks)]
        self._per_head = per_head
        self._chosen = chosen
        self._clock, self._passes, self._ear = StepClock(steps, pipeline), PassReader(), SoftmaxEar()
        self._handles: list[RemovableHandle] = []
        self._contexts: list[tuple[nn.Module, Any]] = []
        self._place: ForwardPlace | None = None
        self._site: ObservedSite | None = None
        self._normed: dict[int, Tensor] = {}
        _check_observable(observed, self._sites, steps, chosen)

    def __enter__(self) -> Trace:
        try:
            for host in self._hosts:
                self._watch_transformer(host)
            for site in self._sites:
                self._watch_site(site)
        except BaseException:
            self._remove()
            raise
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()
        if kind is None and not self.trace.facts and not self.trace.problems:
            names = ", ".join(host.name for host in self._hosts)
            raise ObservationError(
                f"Nothing was observed: {names} ran no forward in {self._clock.window}; run the pipeline inside the "
                "with block, and choose steps that it takes."
            )

    def _watch_transformer(self, host: Host) -> None:
        hook = partial(self._begin_forward, host, inspect.signature(type(host.transformer).forward))
        self._handles.append(host.transformer.register_forward_pre_hook(hook, with_kwargs=True))
        if hasattr(host.transformer, "cache_context"):
            self._contexts.append((host.transformer, vars(host.transformer).get("cache_context")))
            object.__setattr__(host.transformer, "cache_context", _announcing(host.transformer, self._passes))

    def _watch_site(self, site: ObservedSite) -> None:
        enter, leave = partial(self._enter_site, site), partial(self._leave_site, site)
        self._handles.append(site.attention.register_forward_pre_hook(enter))
        self._handles.append(site.attention.register_forward_hook(leave, always_call=True))
        for index, norm in enumerate(site.norms):
            self._handles.append(norm.register_forward_hook(partial(self._keep_keys, index)))

    def _remove(self) -> None:
        self._stop_listening()
        while self._handles:
            self._handles.pop().remove()
        while self._contexts:
            transformer, earlier = self._contexts.pop()
            object.__delattr__(transformer, "cache_context")
            if earlier is not None:
                object.__setattr__(transformer, "cache_context", earlier)

    def _begin_forward(
        self, host: Host, signature: inspect.Signature, transformer: nn.Module, args: Any, kwargs: Any
    ) -> None:
        arguments = signature.bind_partial(None, *args, **kwargs).arguments
        moment = self._clock.read(arguments.get("timestep"), host.family.timestep_scale)
        running = self._passes.read(self._clock.schedule_count, moment.step_index)
        self._place = None
        if moment.is_in_window:
            counts = host.family.token_counts
            self._place = ForwardPlace(
                section=max(self._clock.schedule_count - 1, 0),
                step=-1 if moment.step_index is None else moment.step_index,
                noise_level=moment.noise_level,
                running=running,
                token_counts={} if counts is None else counts(transformer, arguments),
                grid=patch_grid(transformer, arguments["hidden_states"]) if self._chosen else (1, 1),
            )
        if (attachment := attachment_of(host)) is not None:
            attached = {"name": attachment.name, "recipe": attachment.recipe.to_dict()}
            self.trace.origin["attached"][host.name] = attached

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
        if output is not None:  # None: the attention itself failed
            self._record(site, softmaxes_of(site, calls, normed, self._place.token_counts), self._place)

    def _stop_listening(self) -> None:
        """An interrupt inside an attention skips its hook, so that the end of the block does this, too."""
        if self._normed:
            self._ear.__exit__(None, None, None)
        self._site, self._ear.calls, self._normed = None, [], {}

    def _record(self, site: ObservedSite, softmaxes: Sequence[Any], place: ForwardPlace) -> None:
        facts = facts_of(site, softmaxes, place, per_head=self._per_head)
        if all(is_finite(fact) for fact in facts):
            self.trace.facts += facts
            self.trace.maps += maps_of(site, softmaxes, place, self._chosen)
            return
        when = f"step {place.step}" if place.step >= 0 else f"noise level {place.noise_level:.3g}"
        problem = f"NaN or infinity in attention {site} of the {site.host} at {when}: it is left out of the trace."
        if not self.trace.problems:
            warnings.warn(f"{problem} What came before is kept; later ones are in trace.problems.", stacklevel=2)
        self.trace.problems.append(problem)


def _announcing(transformer: Any, passes: PassReader) -> Any:
    """The transformer's own cache context, which also tells the reader of passes its name."""
    own = vars(transformer).get("cache_context")

    @contextmanager
    def cache_context(name: str, **fields: Any) -> Iterator[None]:
        passes.announced = name
        try:
            with own(name, **fields) if own else type(transformer).cache_context(transformer, name, **fields):
                yield
        finally:
            passes.announced = None

    return cache_context


def _check_observable(
    observed: Sequence[Host], sites: Sequence[ObservedSite], steps: StepWindow, chosen: Mapping[str, ChosenKeys]
) -> None:
    if steps.unit == "none" or not sites:
        raise ObservationError(
            f"There is nothing to observe: {len(sites)} attentions at {steps}; choose blocks and steps, such as 'all'."
        )
    for host in observed:
        modules = host.transformer.modules()
        if host.called is not host.transformer or any(module._compiled_call_impl is not None for module in modules):
            raise ObservationError(
                f"The {host.name} is compiled, so its attention cannot be overheard; observe a pipeline on which "
                "torch.compile was not used."
            )
    streams = sorted({name for site in sites for keys in site.keys for name in keys.streams})
    for name, choice in chosen.items():
        if choice.stream not in streams or not choice.positions:
            raise ObservationError(
                f"The map {name!r} is of keys {list(choice.positions)} of {choice.stream!r}; give at least one "
                f"position in one of the streams {', '.join(streams)}."
            )
