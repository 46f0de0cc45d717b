"""ComfyUI as a host of alignvid: a MODEL's transformer, and what each run says of its steps.

ComfyUI lends one model to every clone of a MODEL. `Lent` is the model as one AlignVid node's clones run it: what
`alignvid.attach` is given, with a door that the node's wrapper calls once per forward (patch.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alignvid.errors import UnsupportedModel
from alignvid.host import Door, Runner, register
from alignvid.models import register as register_family
from alignvid.schedule import StepWindow

from .families import FAMILIES

_ROUNDED = 1e-4
"""Of a sigma: samplers in lower precision give it rounded."""


def level_at(sigma: float, model_sampling: Any) -> float:
    """Noise level, 1 to 0, of a sigma: of a flow it is the same."""
    is_flow = any(kind.__name__ == "CONST" for kind in type(model_sampling).__mro__)
    return min(sigma, 1.0) if is_flow else sigma / (1.0 + sigma)


def as_noise(window: StepWindow, model_sampling: Any) -> StepWindow:
    """A window in fractions of the steps as one of noise levels: where the model's own schedule has these steps."""
    high, low = (
        level_at(float(model_sampling.percent_to_sigma(share)), model_sampling) for share in (window.start, window.stop)
    )
    return StepWindow.noise(low, high)


@dataclass(eq=False)
class Run:
    """One call of a sampler, as far as it has come."""

    sigmas: Tensor
    """The schedule that ComfyUI gave, the final one included; kept, so that no other lies at its address."""
    levels: list[float]
    """Noise level of each step, from 1 to 0."""
    sigma_of_step: list[float]
    timesteps: Tensor
    """The levels; a forward is given a view of its step's."""
    is_slice: bool
    """Whether it is a part of a schedule, as with start and end steps, or with two samplers for two models."""
    forwards: int = 0
    acted: int = 0
    """Times that the keys of an attention were multiplied."""
    active_forwards: int = 0
    active_steps: set[int] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)
    state: str = "running"
    notes: list[str] = field(default_factory=list)
    """What was warned of, each once."""

    @classmethod
    def of(cls, sigmas: Tensor, model_sampling: Any) -> Run:
        """A run that begins with this schedule."""
        values = [float(value) for value in sigmas.tolist()]
        steps = values[:-1] or values
        levels = [level_at(value, model_sampling) for value in steps]
        most = float(getattr(model_sampling, "sigma_max", steps[0]))
        is_slice = values[-1] > 0.0 or steps[0] < 0.999 * most
        return cls(sigmas, levels, steps, torch.tensor(levels, dtype=torch.float64, device="cpu"), is_slice)

    def has(self, sigmas: Tensor) -> bool:
        """Whether this is its schedule: ComfyUI hands on one tensor, or copies of it on another device."""
        return sigmas is self.sigmas or sigmas.tolist() == self.sigmas.tolist()

    def step_of(self, sigma: float) -> int:
        """The step within which a forward at this sigma is run: samplers of higher order run some between two steps."""
        begun = [step for step, first in enumerate(self.sigma_of_step) if first * (1.0 + _ROUNDED) >= sigma]
        return begun[-1] if begun else 0


class Lent:
    """A model as the clones of one MODEL run it."""

    def __init__(self, model: nn.Module) -> None:
        """`model`: ComfyUI's BaseModel, which holds the transformer.

        Raises: UnsupportedModel if it holds none.
        """
        transformer = getattr(model, "diffusion_model", None)
        if not isinstance(transformer, nn.Module):
            raise UnsupportedModel(
                f"{type(model).__name__} holds no diffusion model of ComfyUI, so that there is nothing to act on: "
                "connect a MODEL of a core loader; packs with samplers of their own, such as WanVideoWrapper, have "
                "other models."
            )
        self.diffusion_model = getattr(transformer, "_orig_mod", transformer)
        self.run: Run | None = None
        self.options: dict[str, Any] = {}
        """The transformer options of the forward that is running."""
        self.guider: Any = None
        """What combines the passes of the run."""

    def apply(self, *, run: Callable[[], Any], **given: Any) -> Any:
        """The door: run what ComfyUI would have run. `given` is what alignvid may read of the forward."""
        return run()


_GUIDERS_OF_ONE_SCALE = ("CFGGuider", "Guider_Basic")


def guidance_strength(lent: Lent, transformer: str) -> float | None:
    """The scale of classifier-free guidance of the run; None of a guider or a node that combines passes otherwise."""
    is_plain = type(lent.guider).__name__ in _GUIDERS_OF_ONE_SCALE
    return float(lent.guider.cfg) if is_plain and "sampler_cfg_function" not in lent.guider.model_options else None


def forget_caches(lent: Lent) -> None:
    """Let ComfyUI's own EasyCache compute the next forward; does nothing where it is off."""
    cache = lent.options.get("easycache")
    if cache is not None and hasattr(cache, "output_prev_norm"):
        cache.x_prev_subsampled = cache.output_prev_subsampled = cache.output_prev_norm = None
        cache.cumulative_change_rate, cache.skip_current_step = 0.0, False


RUNNER = Runner(
    "ComfyUI",
    recognises=lambda model: isinstance(model, Lent),
    transformers=lambda model: {"diffusion_model": model.diffusion_model},
    door=Door("apply"),
    scheduler=lambda model: model.run,
    levels=lambda model, run: run.levels,
    guidance_strength=guidance_strength,
    forget=forget_caches,
)
register(RUNNER)
for family in FAMILIES:
    register_family(family)
