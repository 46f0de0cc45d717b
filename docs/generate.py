"""Write docs/cli.md from the commands' own help; `--check` fails where the page is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from alignvid.cli.main import cli

PAGE = Path(__file__).parent / "cli.md"
HEAD = "# What can I type?\n\nWritten by `make docs` from the commands' own help.\n"
WIDTH = 100


def page() -> str:
    parts = [HEAD, _section("alignvid", cli)]
    parts += [_section(name, command) for name, command in _commands("alignvid", cli)]
    return "\n".join(parts)


def _commands(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(f"{prefix} {name}", command)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH)
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


def main() -> None:
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/cli.md is stale; run `make docs` and commit it.")


if __name__ == "__main__":
    main()
