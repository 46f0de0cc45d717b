"""What stands in the form, as a GenerationSpec; the same fields and the same errors as on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignvid.errors import InputError

if TYPE_CHECKING:
    from alignvid.generate.spec import GenerationSpec

PRESET, SLIDER = "preset", "slider"
STRENGTHS = (PRESET, SLIDER)
Number = float | str | None
"""As it is typed: Gradio's own field of a number cannot be empty."""
WEIGHT = 1.6
"""Of a word that is clicked on; the text beside the prompt takes any other."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The fields of the page; an empty one is left to the model."""

    prompt: str
    picture: str | None = None
    """Path of the file that was uploaded."""
    strength: str = PRESET
    """What decides it: "preset" or "slider"."""
    preset: str = ""
    """A preset's name; empty for the model's own."""
    follow: float = 0.5
    """The slider."""
    words: str = ""
    """"sunglasses:1.6, red:1.3"."""
    model: str = ""
    negative_prompt: str = ""
    seed: Number = None
    steps: Number = None
    guidance: Number = None
    size: str = ""
    """"832x480"."""
    frames: Number = None


def spec_of(form: Form, shared: Mapping[str, Any]) -> GenerationSpec:
    """The spec of a form.

    Args:
        form: What stands in it.
        shared: Fields that the command line set for all: model, device, dtype, offload, max_pixels.

    Raises: AlignvidError saying which field is wrong, and what may stand there.
    """
    from alignvid.generate.spec import GenerationSpec  # here, for it reads torch, and the page does not wait for that

    fields: dict[str, Any] = {
        "prompt": form.prompt,
        "image": form.picture,
        "negative_prompt": form.negative_prompt.strip() or None,
        "emphasise": form.words.strip() or None,
        "guidance": _number("guidance", form.guidance),
        "steps": _whole("steps", form.steps),
        "frames": _whole("frames", form.frames),
        "seed": _whole("seed", form.seed) or 0,
        **_strength(form),
        **_size(form.size),
    }
    model = {"model": form.model.strip()} if form.model.strip() else {}
    return GenerationSpec(**{**shared, **fields, **model})


def words_of(prompt: str) -> list[str]:
    """The words of a prompt that can be clicked on, each once, in order."""
    words: dict[str, str] = {}
    for word in re.findall(r"\w[\w'’-]*", prompt):
        words.setdefault(word.casefold(), word)
    return list(words.values())


def weights_in(words: str) -> dict[str, str]:
    """The words that a text gives a weight, as they are written."""
    parts = (part.rpartition(":") for part in words.split(",") if part.strip())
    return {word.strip(): weight.strip() for word, colon, weight in parts if colon}


def toggled(words: str, word: str) -> str:
    """The text with a word more, or without it if it was there."""
    weights = weights_in(words)
    there = next((name for name in weights if name.casefold() == word.casefold()), None)
    if there is None:
        weights[word] = f"{WEIGHT:g}"
    else:
        del weights[there]
    return ", ".join(f"{name}:{weight}" for name, weight in weights.items())


def _strength(form: Form) -> dict[str, Any]:
    if form.strength not in STRENGTHS:
        raise InputError(f"Strength {form.strength!r} is unknown; choose one of {', '.join(STRENGTHS)}.")
    if form.strength == SLIDER:
        return {"follow": form.follow}
    return {"preset": form.preset.strip() or None}


def _number(name: str, value: Number) -> float | None:
    if value is None or str(value).strip() == "":
        return None
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} {value!r} is no number; give one, or leave it empty.") from None


def _whole(name: str, value: Number) -> int | None:
    number = _number(name, value)
    if number is None:
        return None
    if number % 1:  # endless, too: its remainder is none
        raise InputError(f"{name} {value} is no whole number; give one, or leave it empty.")
    return int(number)


def _size(text: str) -> dict[str, int]:
    if not text.strip():
        return {}
    if (match := re.fullmatch(r"([0-9]{1,9})\s*[x×]\s*([0-9]{1,9})", text.strip())) is None:
        raise InputError(f"Size {text!r} is none; write for example 832x480, or leave it empty.")
    return {"width": int(match[1]), "height": int(match[2])}
