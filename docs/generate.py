"""Write docs/cli.md from the commands' own help and docs/models.md from what the tests of families recorded.

`--check` fails where a page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from alignvid import presets
from alignvid.cli.main import cli
from alignvid.models import families
from alignvid.models.exercised import PipelineFacts, model_table

DOCS = Path(__file__).parent
CLI_HEAD = "# What can I type?\n\nWritten by `make docs` from the commands' own help.\n"
WIDTH = 100

MODELS_HEAD = """# Which models does it work with?

Written by `make docs` from what the tests found (`pytest tests/models --record-models`). Each pipeline below was run
from end to end: the real diffusers class, made tiny by its config, with random weights, on a CPU. That shows that the
gain acts where it should; it says nothing about how much it helps a released model.

{pipelines} pipelines of {families} families.

{claims}

An empty cell: not tried, as where the pipeline has no second branch. A target is `site.stream`: `video` are the
generated tokens, of a picture too, and `image` those of a reference.
"""


CLAIMS = {
    "neutral gain": "with γ = 1 the output is bit-equal",
    "gain": "with its own preset and γ = 1.35 the output changes",
    "every target": "each target alone changes the output",
    "step window": "the first step alone is modulated, in all of its passes",
    "CFG branch": '`branch="cond"` and `"uncond"` act on that branch alone',
    "detach": "after detaching the output is bit-equal to before",
    "explicit softmax": "each target equals softmax(gain · q kᵀ / √d) v written out, within 1e-6",
}
"""What a column says: passed on one variant of the pipeline at least, and failed on none."""


def cli_page() -> str:
    parts = [CLI_HEAD, _section("alignvid", cli)]
    parts += [_section(name, command) for name, command in _commands("alignvid", cli)]
    return "\n".join(parts)


def models_page() -> str:
    built_in = [family for family in families().values() if family.pipelines]
    table = model_table(built_in)
    claims = ["| column | what passed |", "|---|---|", *(f"| {claim} | {words} |" for claim, words in CLAIMS.items())]
    pipelines = sum("runs" in facts.exercised for facts in table)
    head = MODELS_HEAD.format(pipelines=pipelines, families=len(built_in), claims="\n".join(claims))
    return "\n".join([head, *_rows(table), "", *_refusals(table)])


def _rows(table: list[PipelineFacts]) -> list[str]:
    columns = ("family", "pipeline", "targets", "presets", *CLAIMS)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for facts in table:
        targets = ", ".join(f"`{target}`" for target in facts.targets)
        ticks = ["yes" if claim in facts.exercised else "" for claim in CLAIMS]
        lines.append(f"| {' | '.join((facts.family, facts.pipeline, targets, _presets(facts.family), *ticks))} |")
    return lines


def _presets(family: str) -> str:
    names = [name for name in presets.names() if presets.load(name).family == family]
    return ", ".join([*names, presets.GENERIC])


def _refusals(table: list[PipelineFacts]) -> list[str]:
    """Reasons, each with the pipelines that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for facts in table:
        for target, reason in facts.refused.items():
            by_reason.setdefault(reason, []).append(f"`{target}` of {facts.pipeline}")
    lines = [f"- {', '.join(where)}: {reason}." for reason, where in by_reason.items()]
    return ["## What cannot be acted on, and why", "", *lines, ""] if lines else []


def _commands(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(f"{prefix} {name}", command)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH)
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


PAGES = {"cli.md": cli_page, "models.md": models_page}


def main() -> None:
    for file, page in PAGES.items():
        path, text = DOCS / file, page()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{file} is stale; run `make docs` and commit it.")


if __name__ == "__main__":
    main()
