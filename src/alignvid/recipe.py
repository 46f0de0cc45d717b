"""Recipe: what acts (modulation), where (block set), when (step window) and in which CFG branch. Frozen and
serialisable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, TypedDict, get_args

from alignvid import modulation as kinds
from alignvid.errors import RecipeError
from alignvid.fields import read
from alignvid.modulation import Modulation, Scalar
from alignvid.schedule import BlockSet, StepWindow

Branch = Literal["both", "cond", "uncond"]
"""Which pass of classifier-free guidance is modulated. The released code modulates both."""


class _Written(TypedDict):
    """A recipe in TOML or JSON."""

    modulation: Mapping[str, Any]
    blocks: str | list[int] | Mapping[str, str | list[int]]
    steps: Mapping[str, Any]
    branch: NotRequired[Branch]


@dataclass(frozen=True)
class Recipe:
    """All that AlignVid needs to know to act on a model."""

    modulation: Modulation = field(default_factory=Scalar)
    """How attention is acted on, by target."""
    blocks: BlockSet = field(default_factory=lambda: BlockSet.of("first-half"))
    """Blocks in which the gain acts."""
    steps: StepWindow = field(default_factory=lambda: StepWindow.fraction(0.0, 0.3))
    """Denoising steps at which it acts."""
    branch: Branch = "both"
    """CFG branch in which it acts."""

    def __post_init__(self) -> None:
        if self.branch not in get_args(Branch):
            raise RecipeError(f"branch {self.branch!r} is unknown; choose one of {', '.join(get_args(Branch))}.")
        for name, kind in (("modulation", Modulation), ("blocks", BlockSet), ("steps", StepWindow)):
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"{name} must be a {kind.__name__}, but {getattr(self, name)!r} was given.")

    @property
    def gamma(self) -> float:
        """The knob of the modulation: the gain, or the largest one, before its powers."""
        return self.modulation.gamma

    def override(
        self,
        *,
        gamma: float | None = None,
        blocks: BlockSet | str | Iterable[int] | Mapping[str, Any] | None = None,
        steps: StepWindow | tuple[float, float] | str | None = None,
        powers: Mapping[str, float] | None = None,
        branch: Branch | None = None,
    ) -> Recipe:
        """A copy with the given parts replaced; None leaves a part as it is."""
        return replace(
            self,
            modulation=self.modulation.override(gamma=gamma, powers=powers),
            blocks=self.blocks if blocks is None else BlockSet.of(blocks),
            steps=self.steps if steps is None else StepWindow.of(steps),
            branch=self.branch if branch is None else branch,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for TOML and JSON; `from_dict` reads it back to an equal recipe."""
        return {
            "modulation": self.modulation.to_dict(),
            "blocks": self.blocks.to_dict(),
            "steps": self.steps.to_dict(),
            "branch": self.branch,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Read a dict written by `to_dict`.

        Raises: RecipeError for an unknown, missing or wrong field; ModulationError or ScheduleError for one within.
        """
        written = read(_Written, fields, what="A recipe", error=RecipeError)
        return cls(
            modulation=kinds.from_dict(written["modulation"]),
            blocks=BlockSet.of(written["blocks"]),
            steps=StepWindow.from_dict(written["steps"]),
            branch=written.get("branch", "both"),
        )
