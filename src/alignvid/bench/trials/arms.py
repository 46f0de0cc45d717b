"""The arms of a trial by name, as variants of the benchmark: in diffusers, or as widgets of ComfyUI's node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignvid import presets
from alignvid.bench.comfyui.workflow import Workflow
from alignvid.bench.runs.variants import BASELINE, STILL, Variant, check_variants, parse_variant
from alignvid.bench.trials.criteria import GUIDANCE
from alignvid.bench.trials.spec import ARMS
from alignvid.errors import InputError
from alignvid.generate.recipes import number, settings_in
from alignvid.generate.sketch import Sketch, find_preset
from alignvid.presets import GENERIC

_FOLLOW = "follow-"
_SETTINGS = ("preset", "gamma", "follow", "blocks", "steps-window", "streams", "branch", "guidance")


@dataclass(frozen=True)
class Arms:
    """What is run of the arms that were asked for."""

    texts: Mapping[str, str]
    """Variants as `bench run` reads them, by name; in ComfyUI the arms' own names."""
    variants: tuple[Variant, ...]
    left_out: Mapping[str, str]
    """Arms that this model cannot have, with the reason."""


def diffusers_arms(names: Sequence[str], model: Sketch, guidance: float | None) -> Arms:
    """Arms on a model without its weights; `guidance` is what it would run with.

    Raises: InputError for an arm that is unknown; AlignvidError for one that does not fit the model.
    """
    texts: dict[str, str] = {}
    variants: list[Variant] = []
    left_out: dict[str, str] = {}
    for name in _checked(names):
        text = _text(name, model, guidance)
        if isinstance(text, _Left):
            left_out[name] = text.reason
            continue
        variant = parse_variant(text, model)
        if same := [one.name for one in variants if one.recipe is not None and one == replace(variant, name=one.name)]:
            left_out[name] = f"on this model it is the same as {same[0]}"
            continue
        texts[variant.name] = text
        variants.append(variant)
    check_variants(variants)
    return Arms(texts, tuple(variants), left_out)


def comfyui_arms(names: Sequence[str], workflow: Workflow, guidance: float | None) -> Arms:
    """Arms as widgets of the AlignVid node; what its preset is for the model is known when it has run.

    Raises: InputError for an arm that is unknown, or that the workflow has no placeholder for.
    """
    variants: list[Variant] = []
    left_out: dict[str, str] = {}
    for name in _checked(names):
        found = _widgets(name, workflow, guidance)
        if isinstance(found, _Left):
            left_out[name] = found.reason
        else:
            variants.append(found)
    check_variants(variants)
    return Arms({one.name: one.name for one in variants}, tuple(variants), left_out)


@dataclass(frozen=True)
class _Left:
    reason: str


def _checked(names: Sequence[str]) -> list[str]:
    wanted = [name.strip() for name in names if name.strip()]
    if BASELINE not in wanted:
        raise InputError(
            f"The arms {', '.join(wanted) or '(none)'} lack {BASELINE!r}, which all are compared with; add it."
        )
    for name in wanted:
        is_own = "=" in name or name.endswith(".toml") or name in presets.names()
        if name not in ARMS and not is_own and _place(name) is None:
            raise InputError(
                f"Arm {name!r} is unknown; choose from {', '.join(ARMS)}, or write one as a variant of a benchmark, "
                'such as "late: gamma=1.5 steps-window=0.7-1.0".'
            )
    if not [name for name in wanted if name not in (STILL, BASELINE)]:
        raise InputError(f"There is no arm to compare with {BASELINE!r}; add one, such as released.")
    return wanted


def _place(name: str) -> float | None:
    """The place on the slider that an arm names."""
    try:
        return float(name.removeprefix(_FOLLOW)) if name.startswith(_FOLLOW) else None
    except ValueError:
        return None


def _text(name: str, model: Sketch, guidance: float | None) -> str | _Left:
    if name == "released":
        preset = find_preset(model).name
        return _Left(_NO_PRESET) if preset.startswith(GENERIC) else f"released: preset={preset}"
    if name == "generic":
        return f"generic: preset={GENERIC}"
    if name == "guidance":
        raised = _raised(guidance)
        return raised if isinstance(raised, _Left) else f"guidance: guidance={raised:g}"
    if (place := _place(name)) is not None:
        return f"{name}: follow={place:g}"
    return name


def _widgets(name: str, workflow: Workflow, guidance: float | None) -> Variant | _Left:
    if name in (STILL, BASELINE):
        return Variant(name, still=name == STILL)
    if name == "released":
        return Variant(name, node={"preset": "auto"})
    if name == "generic":
        return Variant(name, node={"preset": f"{GENERIC}:{GENERIC}"})
    if name == "guidance":
        if "guidance" not in workflow.placeholders:
            return _Left("the workflow has no {{guidance}}")
        raised = _raised(guidance)
        return raised if isinstance(raised, _Left) else Variant(name, guidance=raised)
    if (place := _place(name)) is not None:
        return Variant(name, node={"strength": "follow", "follow": place})
    return _own(name, workflow)


def _own(text: str, workflow: Workflow) -> Variant:
    """An arm that is written out: "name: gamma=1.5 blocks=0+2-7"."""
    title, colon, body = text.partition(":") if ":" in text.partition("=")[0] else ("", "", text)
    if "=" not in body:
        return Variant(text, node={"preset": text})
    pairs = settings_in(body, _SETTINGS, what="An arm in ComfyUI")
    node: dict[str, Any] = {}
    for field in ("gamma", "follow"):
        if field in pairs:
            node |= {"strength": field, field: number(field, pairs[field])}
    node |= {
        field: pairs[field].replace("+", ",") for field in ("preset", "blocks", "streams", "branch") if field in pairs
    }
    if "steps-window" in pairs:
        node["steps"] = pairs["steps-window"]
    guidance = number("guidance", pairs["guidance"]) if "guidance" in pairs else None
    if guidance is not None and "guidance" not in workflow.placeholders:
        raise InputError(f"Arm {text!r} sets guidance, and the workflow has no {{{{guidance}}}}; put it there.")
    return Variant(title.strip() if colon else text, guidance=guidance, node=node or None)


def _raised(guidance: float | None) -> float | _Left:
    """More guidance, where there is a second pass to raise it in: it costs nothing more then."""
    if guidance is None or guidance <= 1:
        return _Left("this set-up runs without guidance")
    return round(guidance * GUIDANCE, 3)


_NO_PRESET = "no preset is tuned for this model"
