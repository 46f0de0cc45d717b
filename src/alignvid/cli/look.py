"""The commands that look and change nothing: inspect, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from alignvid.cli.options import SPEC_OPTIONS
from alignvid.cli.terminal import examples, json_option, print_json, print_table, print_text, quiet_libraries


@click.command(epilog=examples("alignvid inspect miniature --preset generic", "alignvid inspect --run out"))
@click.argument("model", required=False)
@SPEC_OPTIONS["preset"]
@click.option(
    "--run", type=click.Path(path_type=Path), help="Folder of `alignvid generate --observe`: makes a page of it."
)
@json_option
def inspect(model: str | None, preset: str | None, run: Path | None, as_json: bool) -> None:
    """Show what MODEL (miniature unless named) is made of and a preset would touch, or what attention did in a run.

    Weights are not needed.
    """
    if run is not None and (model or preset):
        raise click.UsageError("--run shows a run, so MODEL and --preset say nothing; leave them out.")
    quiet_libraries()
    if run is not None:
        _inspect_run(run, as_json)
    else:
        _inspect_model(model or "miniature", preset, as_json)


def _inspect_run(run: Path, as_json: bool) -> None:
    from alignvid.report.attention import write_attention_page

    page = write_attention_page(run)
    if as_json:
        print_json({"page": str(page)})
    else:
        click.echo(f"Open {page}")


def _inspect_model(model: str, preset: str | None, as_json: bool) -> None:
    from alignvid.generate.sketch import inspect_model

    found = inspect_model(model, preset)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['model']}: {found['pipeline']}, family {found['family']}\n")
    rows = [
        (transformer["name"], stack["name"], str(stack["blocks"]), site, ", ".join(streams))
        for transformer in found["transformers"]
        for stack in transformer["stacks"]
        for site, streams in stack["sites"].items()
    ]
    print_table(("transformer", "stack", "blocks", "site", "streams"), rows)
    click.echo()
    print_text(found["touches"]["summary"])


@click.command(epilog=examples("alignvid doctor", "alignvid doctor --json"))
@json_option
def doctor(as_json: bool) -> None:
    """Check versions, device and codecs; say what is missing and the line that installs it."""
    quiet_libraries()
    from alignvid.doctor import examine, is_ready

    checks = examine()
    if as_json:
        print_json([check.to_dict() for check in checks])
    else:
        rows = [("ok" if check.is_fine else "--", check.name, check.remedy or "", check.text) for check in checks]
        print_table(("", "check", "to install", "found"), rows)
    sys.exit(0 if is_ready(checks) else 1)
