"""What was chosen for a run, in words: the preset and how it fits the model, the recipe, the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from alignvid import presets
from alignvid.attachment.summary import Summary
from alignvid.generate.call import Settings
from alignvid.generate.loading import ModelSource
from alignvid.generate.sketch import Sketch, find_preset
from alignvid.generate.spec import GenerationSpec
from alignvid.presets import GENERIC
from alignvid.recipe import Recipe

_BRANCHES = {"both": "both passes of guidance", "cond": "the prompt's pass alone", "uncond": "the unconditional pass"}
_OVERRIDES = ("gamma", "blocks", "steps_window", "streams", "branch", "emphasise")


@dataclass(frozen=True)
class Choice:
    """A recipe and where it comes from."""

    preset: str
    """Its name."""
    fit: str
    """How the preset and the model go together, such as "tuned for this model"."""
    recipe: Recipe
    actions: tuple[str, ...]
    """What happens to each stream, such as "cross.text x1.5"."""
    places: tuple[str, ...]
    """The blocks of each stack."""
    site_count: int
    """Attentions that are acted on."""

    def lines(self) -> dict[str, str]:
        """The preset and the recipe, each under a heading."""
        window = {part.steps: None for part in self.recipe.parts}
        branch = {_BRANCHES[part.branch]: None for part in self.recipe.parts}
        return {
            "preset": f"{self.preset} ({self.fit})",
            "strength": f"gamma {self.recipe.gamma:g}: {', '.join(self.actions)}",
            "where": f"{self.site_count} sites: {'; '.join(self.places)}",
            "when": f"{', then '.join(map(str, window))}; {', then '.join(branch)}",
        }


def choice_of(spec: GenerationSpec, model: Sketch, resolved: Summary, recorded: Recipe | None) -> Choice:
    """What a spec chooses for a model.

    Args:
        spec: What was asked for.
        model: The model without its weights.
        resolved: The recipe laid over it.
        recorded: A recipe that takes the place of the spec's preset.
    """
    fit = "as the record has it" if recorded else _fit(spec, resolved.name, model)
    changed = [name.replace("_", "-") for name in _OVERRIDES if getattr(spec, name) is not None]
    return Choice(
        preset=resolved.name,
        fit=f"{fit}; changed here: {', '.join(changed)}" if changed else fit,
        recipe=resolved.recipe,
        actions=tuple(resolved.actions),
        places=tuple(
            f"blocks {blocks} of `{stack}`" + (f" in {host}" if len(resolved.places) > 1 else "")
            for host in resolved.places
            for stack, blocks in resolved.blocks(host).items()
        ),
        site_count=resolved.site_count,
    )


def settings_lines(settings: Settings, spec: GenerationSpec) -> dict[str, str]:
    """The numbers of a run, each under a heading."""
    length = "one picture" if settings.frames is None else f"{settings.frames} frames at {settings.fps:g} a second"
    guidance = "none" if settings.guidance is None else f"{settings.guidance:g}"
    if spec.cfg_high is not None:
        guidance += f" in the first {spec.cfg_high}"
    return {
        "size": f"{settings.width}x{settings.height}, {length}",
        "steps": f"{settings.steps}; guidance {guidance}; seed {spec.seed}",
    }


def model_line(source: ModelSource) -> dict[str, str]:
    """The model, under a heading."""
    return {"model": f"{source.name} ({source.pipeline_class})"}


def _fit(spec: GenerationSpec, name: str, model: Sketch) -> str:
    if spec.recipe is not None:
        return "as --recipe has it"
    if spec.follow is not None:
        return "from -1, the picture, to 1, the prompt; not tuned for this model"
    asked = spec.preset
    stem, best = name.partition(":")[0], find_preset(model).name.partition(":")[0]
    if asked is not None and asked.endswith(".toml"):
        return "your file"
    if stem == GENERIC:
        if asked is None:
            return "no preset is tuned for this model, so a rule of thumb acts; `alignvid calibrate` makes one"
        return "a rule of thumb for any model, not tuned for this one"
    if stem == best:
        return "tuned for this model"
    return f"tuned for {presets.load(name).title}, not for this model"
