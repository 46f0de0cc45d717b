"""The effect of ALG: the low-passed reference in both passes, and a third pass in place of the unconditional one.

The pipeline combines what it is given, v = U + s · (C − U). With C = v(text, c_lp), B = v(negative, c_lp) and
A = v(negative, c), the method's v = A + s · (C − B) is what it gets from U = B + (B − A) / (s − 1). So the
unconditional forward runs twice, with the reference low-passed and as it is, and nothing of the pipeline's loop is
changed.

Source: arXiv 2506.08456.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import ref

from jaxtyping import Float
from torch import Tensor

from alignvid.attachment.effect import Installed, SwitchedState
from alignvid.attachment.effects.down_up import DownUpReference, down_up_effects
from alignvid.attachment.placement import Placement
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.registry import runner_of
from alignvid.host.transformers import Host
from alignvid.models.family import ReferenceChannels
from alignvid.modulation.alg import Alg


def negative_of_three(low_passed: Float[Tensor, ...], whole: Float[Tensor, ...], scale: float) -> Float[Tensor, ...]:
    """What guidance of this scale must be given for the negative prompt, from its passes B and A; see above."""
    passed = low_passed.float()
    return (passed + (passed - whole.float()) / (scale - 1.0)).to(low_passed.dtype)


class BranchState(SwitchedState):
    """Which pass of guidance a forward is."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = "unknown"


class ThreePasses(DownUpReference):
    """Low-passes the reference, and makes of the unconditional forward what three passes need."""

    state_type = BranchState
    reads_branch = True
    runs_twice = True

    def __init__(self, modulation: Alg, channels: ReferenceChannels, host: str) -> None:
        """`host`: attribute of the pipeline that holds the transformer."""
        super().__init__(modulation.ratio, channels)
        self.host = host
        self._given = modulation.scale or None
        self._ask: Callable[[], float | None] = lambda: None

    def learn(self, pipeline: Any) -> None:
        """Remember whom to ask for the scale of guidance.

        Raises: UnknownTarget if the loop may answer the second pass from a cache of its own.
        """
        if pipeline is not None:
            if (runner := runner_of(pipeline)).forget is not None:
                raise UnknownTarget(
                    f"ALG runs the unconditional forward twice, which a cache in the loop of {runner.name} would take "
                    "for one: use the kind 'down-up', the same low-pass in two passes."
                )
            self._ask = partial(_scale_of, ref(pipeline), self.host)

    def needs_another(self) -> bool:
        """Whether the forward that has run must run without this effect, too.

        Raises: AttachmentError for a forward whose branch of guidance is not known, or that holds both.
        """
        now = self.now
        if not now.is_active:
            return False
        if now.branch not in ("cond", "uncond"):
            raise AttachmentError(
                f"ALG runs another pass of the unconditional forward, and this one is {now.branch}: it is for "
                "pipelines that run a pass for each branch, such as Wan's. Use the kind 'down-up' here."
            )
        return now.branch == "uncond"

    def combined(self, output: Tensor, without: Tensor) -> Tensor:
        """What the pipeline is to take for the unconditional pass.

        Raises: AttachmentError if the scale of guidance is not known.
        """
        scale = self._given or self._ask()
        if scale is None or scale <= 1.0:
            raise AttachmentError(
                "ALG needs the scale of guidance, which this pipeline does not say: give it as a setting, "
                "Alg(scale=…), the one that you call the pipeline with (HunyuanVideo's true_cfg_scale)."
            )
        return negative_of_three(output, without, scale)


def _scale_of(pipeline: Callable[[], Any], host: str) -> float | None:
    model = pipeline()
    return None if model is None else runner_of(model).guidance_scale(model, host)


def alg_effects(modulation: Alg, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One low-pass at the door of a transformer, which may ask for a forward more.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    [(module, plain, _)] = down_up_effects(modulation, host, placements)
    assert isinstance(plain, DownUpReference)
    return [Installed(module, ThreePasses(modulation, plain.channels, host.name))]
