"""Recipe: what acts (modulation), where (block set), when (step window) and in which CFG branch. Frozen and
serialisable.

A recipe may hold several modulations, each with its own blocks, window and branch, in the order in which they act:

    Recipe(Scalar(1.35, {"double.text": 1.0}), then=(Recipe(LogBias(2.0, {"double.image": -1.0})),))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, TypedDict, get_args

from alignvid import modulation as kinds
from alignvid.blocks import BlockSet
from alignvid.errors import RecipeError
from alignvid.fields import read
from alignvid.modulation import Emphasis, Modulation, Scalar
from alignvid.schedule import StepWindow

Branch = Literal["both", "cond", "uncond"]
"""Which pass of classifier-free guidance is modulated. The released code modulates both."""


class _Written(TypedDict):
    """A recipe in TOML or JSON."""

    modulation: Mapping[str, Any]
    blocks: str | list[int] | Mapping[str, str | list[int]]
    steps: Mapping[str, Any]
    branch: NotRequired[Branch]
    then: NotRequired[list[Mapping[str, Any]]]


@dataclass(frozen=True)
class Recipe:
    """All that AlignVid needs to know to act on a model.

    Examples:
        >>> recipe = Recipe(Scalar(1.35, {"cross.text": 1.0}), BlockSet.of("0,2-7"), StepWindow.noise_above(0.9))
        >>> recipe.override(gamma=1.5).gamma
        1.5
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
        >>> recipe.to_dict()["steps"]
        {'unit': 'noise', 'start': 0.9, 'stop': 1.0}
    """

    modulation: Modulation = field(default_factory=Scalar)
    """How attention is acted on, by target."""
    blocks: BlockSet = field(default_factory=lambda: BlockSet.of("first-half"))
    """Blocks in which the gain acts."""
    steps: StepWindow = field(default_factory=lambda: StepWindow.fraction(0.0, 0.3))
    """Denoising steps at which it acts."""
    branch: Branch = "both"
    """CFG branch in which it acts."""
    then: tuple[Recipe, ...] = ()
    """What else acts, in this order, after the modulation above: two gains on one target multiply."""

    def __post_init__(self) -> None:
        if self.branch not in get_args(Branch):
            raise RecipeError(f"branch {self.branch!r} is unknown; choose one of {', '.join(get_args(Branch))}.")
        for name, kind in (("modulation", Modulation), ("blocks", BlockSet), ("steps", StepWindow)):
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"{name} must be a {kind.__name__}, but {getattr(self, name)!r} was given.")
        if wrong := [part for part in self.then if not isinstance(part, Recipe)]:
            raise RecipeError(f"then holds recipes, but {wrong[0]!r} was given; write then=(Recipe(…),).")
        flat = tuple(single for part in self.then for single in part.parts)
        object.__setattr__(self, "then", flat)

    @classmethod
    def of(cls, modulation: Modulation) -> Recipe:
        """A modulation with the blocks, steps and branch that are usual for its kind."""
        blocks, steps, branch = modulation.schedule
        return cls(modulation, BlockSet.of(blocks), StepWindow.of(steps), branch)  # type: ignore[arg-type]  # checked

    @property
    def parts(self) -> tuple[Recipe, ...]:
        """Recipes of one modulation each, in the order in which they act."""
        return (replace(self, then=()), *self.then) if self.then else (self,)

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
        """A copy with the given parts replaced; None leaves a part as it is.

        Raises: RecipeError where it holds several modulations, for which one is meant cannot be known.
        """
        given = {"gamma": gamma, "blocks": blocks, "steps": steps, "streams": powers, "branch": branch}
        if self.then and (named := [name for name, value in given.items() if value is not None]):
            raise RecipeError(
                f"{named[0]} cannot be overridden in a recipe of {len(self.parts)} modulations, each of which has its "
                "own: change it in the recipe."
            )
        return replace(
            self,
            modulation=self.modulation.override(gamma=gamma, powers=powers),
            blocks=self.blocks if blocks is None else BlockSet.of(blocks),
            steps=self.steps if steps is None else StepWindow.of(steps),
            branch=self.branch if branch is None else branch,
        )

    def emphasising(self, weights: Mapping[str, float]) -> Recipe:
        """A copy that acts on these words, too, in the blocks, steps and branch of its first modulation.

        Raises: ModulationError if a weight is not a finite positive number.
        """
        emphasis = replace(self, modulation=Emphasis(weights), then=())
        return replace(self, then=(*self.then, emphasis))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for TOML and JSON; `from_dict` reads it back to an equal recipe."""
        values = {
            "modulation": self.modulation.to_dict(),
            "blocks": self.blocks.to_dict(),
            "steps": self.steps.to_dict(),
            "branch": self.branch,
        }
        return {**values, "then": [part.to_dict() for part in self.then]} if self.then else values

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
            then=tuple(cls.from_dict(part) for part in written.get("then", ())),
        )
