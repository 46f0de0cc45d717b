"""Record what attention does in a run, and change nothing: `with alignvid.observe(pipe) as trace:`.

Hooks on the observed attentions say which one is running, hooks on their key norms how many keys each stream
has, and the attention call itself is overheard (softmaxes.py). All of it is gone when the block ends. What is measured
are the queries and keys as the softmax sees them: after norm, rotary embedding and, if attached, the gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignvid.analysis.maps import ChosenKeys
from alignvid.analysis.observation import Observation
from alignvid.analysis.origin import origin_of
from alignvid.analysis.recorder import FactRecorder
from alignvid.analysis.sites import ObservedSite, observed_sites
from alignvid.analysis.trace import Trace
from alignvid.blocks import BlockSet
from alignvid.errors import ObservationError
from alignvid.host.clock import StepClock
from alignvid.host.parallel import is_context_parallel
from alignvid.host.registry import pipeline_of
from alignvid.host.transformers import Host, hosts
from alignvid.schedule import StepWindow


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

    Examples:
        >>> with alignvid.observe(pipe, blocks=[0, 1], steps=(0.0, 0.5)) as trace:
        ...     frames = pipe(image, "add a green circle at the top left", **size).frames[0]
        >>> trace.mean("entropy", by=("block", "step")).labels
        ((0, 1), (0, 1))

    Returns: a context manager that gives the `Trace` and fills it while the model runs.
    Raises: UnsupportedModel, UnknownTarget, ScheduleError or ObservationError; then the model is untouched.
    """
    pipeline = pipeline_of(pipe_or_transformer)
    observed, block_set, window = hosts(pipe_or_transformer), BlockSet.of(blocks), StepWindow.of(steps)
    sites = [site for host in observed for site in observed_sites(host, pipeline, block_set)]
    chosen = {name: ChosenKeys(*choice) for name, choice in (maps or {}).items()}
    check_observable(observed, sites, window, chosen)
    trace = Trace(origin_of(observed, block_set, window))
    recorder = FactRecorder(trace, per_head, chosen)
    return Observation(pipe_or_transformer, trace, observed, sites, StepClock(window, pipeline), recorder)


def check_observable(
    observed: Sequence[Host], sites: Sequence[ObservedSite], steps: StepWindow, chosen: Mapping[str, ChosenKeys]
) -> None:
    """Refuse what would observe nothing, or cannot be overheard. Raises: ObservationError."""
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
        if is_context_parallel(host.transformer):
            raise ObservationError(
                f"The {host.name} runs with context parallelism, so its softmaxes are over parts of heads and tokens; "
                "observe a pipeline on which enable_parallelism was not called."
            )
    streams = sorted({name for site in sites for keys in site.keys for name in keys.streams})
    for name, choice in chosen.items():
        if choice.stream not in streams or not choice.positions:
            raise ObservationError(
                f"The map {name!r} is of keys {list(choice.positions)} of {choice.stream!r}; give at least one "
                f"position in one of the streams {', '.join(streams)}."
            )
