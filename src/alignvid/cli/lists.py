"""The commands that list what there is: presets and models; with a WORD, those that have it in their name, in full."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from alignvid.cli.terminal import examples, json_option, print_json, print_table, quiet_libraries

if TYPE_CHECKING:
    from alignvid.models.evidence import PipelineFacts
    from alignvid.presets import Preset

T = TypeVar("T")

_RUNS = "runs"
_TESTED = {
    _RUNS: "a whole run",
    "neutral gain": "gamma 1 gives the same bits",
    "gain": "a gain acts",
    "explicit softmax": "as much as a softmax written out says",
    "every target": "each stream alone",
    "step window": "in its steps alone",
    "CFG branch": "in its pass of guidance alone",
    "detach": "nothing is left after detaching",
}
"""What the tests of families found, in a user's words."""


@click.command(epilog=examples("alignvid presets", "alignvid presets wan"))
@click.argument("word", required=False)
@json_option
def presets(word: str | None, as_json: bool) -> None:
    """List the presets: named recipes. With WORD those with it in their name or model, in full."""
    from alignvid import presets as library

    every = [library.load(name) for name in library.names()]
    found = _matching(every, word, lambda preset: (preset.name, preset.family, preset.title), "preset")
    if as_json:
        print_json([_preset_dict(preset) for preset in found])
    elif word is None:
        rows = [(item.name, item.family, f"{item.recipe.gamma:g}", str(item.recipe.steps)) for item in found]
        print_table(("preset", "family", "gamma", "when"), rows)
        click.echo("\nWhere one comes from, and what it acts on: alignvid presets WORD.")
    else:
        _print_blocks({preset.name: _preset_lines(preset) for preset in found})


@click.command(epilog=examples("alignvid models", "alignvid models kontext"))
@click.argument("word", required=False)
@json_option
def models(word: str | None, as_json: bool) -> None:
    """List the pipelines of diffusers that are supported. With WORD those with it in their name or family, in full."""
    quiet_libraries()
    from alignvid.models import families
    from alignvid.models.evidence import model_table

    every = model_table(families().values())
    found = _matching(every, word, lambda facts: (facts.pipeline, facts.family), "pipeline or family")
    if as_json:
        print_json([facts.to_dict() for facts in found])
    elif word is None:
        rows = [(facts.pipeline, facts.family, _end_to_end(facts)) for facts in found]
        print_table(("pipeline", "family", "tested"), rows)
        count = sum(_RUNS in facts.exercised for facts in found)
        click.echo(
            f"\n{count} pipelines, each tested end to end on a tiny one, not on released weights.\n"
            "What can be acted on in one: alignvid models WORD, such as kontext."
        )
    else:
        _print_blocks({facts.pipeline: _model_lines(facts) for facts in found})


def _matching(rows: list[T], word: str | None, texts_of: Callable[[T], Iterable[str]], what: str) -> list[T]:
    """The rows with a word in one of their texts, in upper or lower case."""
    if word is None:
        return rows
    found = [row for row in rows if any(word.lower() in text.lower() for text in texts_of(row))]
    if found:
        return found
    names = {text.lower(): text for row in rows for text in texts_of(row)}
    near = [names[name] for name in difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.5)]
    remedy = f"the nearest are {', '.join(near)}" if near else "leave the word out to see all"
    raise click.UsageError(f"No {what} has {word!r} in its name; {remedy}.")


def _preset_lines(preset: Preset) -> dict[str, str]:
    recipe = preset.recipe
    return {
        "for": f"{preset.title} (family {preset.family})",
        "strength": f"gamma {recipe.gamma:g}, to the power: "
        + ", ".join(f"{target} {power:g}" for target, power in recipe.modulation.powers.items()),
        "where": f"blocks {recipe.blocks}",
        "when": f"{recipe.steps}, CFG branch {recipe.branch}",
        "from": preset.provenance,
    }


def _model_lines(facts: PipelineFacts) -> dict[str, str]:
    words = [text for claim, text in _TESTED.items() if claim in facts.exercised and claim != _RUNS]
    lines = {
        "family": facts.family,
        "streams": ", ".join(facts.targets),
        "presets": ", ".join([*facts.presets, "generic"]),
        "tested": ": ".join(filter(None, (_end_to_end(facts), "; ".join(words)))),
    }
    refused: dict[str, list[str]] = {}
    for target, reason in facts.refused.items():
        refused.setdefault(reason, []).append(target)
    return {**lines, **{f"not {', '.join(targets)}": reason for reason, targets in refused.items()}}


def _end_to_end(facts: PipelineFacts) -> str:
    return "end to end" if _RUNS in facts.exercised else "not run"


def _print_blocks(blocks: Mapping[str, Mapping[str, str]]) -> None:
    """Each name with its lines below it, folded to the terminal; names stay whole."""
    width = max(40, shutil.get_terminal_size().columns - 1)
    for number, (name, lines) in enumerate(blocks.items()):
        click.echo(("\n" if number else "") + name)
        for heading, text in lines.items():
            first = f"  {heading:10}" if len(heading) < 10 else f"  {heading}: "
            options: dict[str, Any] = {"subsequent_indent": " " * 12, "break_on_hyphens": False}
            click.echo(textwrap.fill(text, width, initial_indent=first, break_long_words=False, **options))


def _preset_dict(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "family": preset.family,
        "provenance": preset.provenance,
        "recipe": preset.recipe.to_dict(),
    }
