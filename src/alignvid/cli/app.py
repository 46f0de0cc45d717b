"""The command that shows the page: app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alignvid.cli.following import JUDGE_FIELDS, JUDGE_OPTIONS
from alignvid.cli.options import given, spec_options
from alignvid.cli.terminal import examples, quiet_libraries, say, shows_progress


def _with_judge_options(command: Any) -> Any:
    for option in reversed(JUDGE_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "alignvid app",
        "alignvid app --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --host 0.0.0.0 --token $(openssl rand -hex 16)",
    )
)
@spec_options("model", "device", "dtype", "offload", "max-pixels")
@click.option(
    "--out", default=Path("app"), show_default=True, type=click.Path(path_type=Path), help="Folder of all runs."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it answers; another needs --token.")
@click.option("--port", default=7860, show_default=True, type=int, help="0 takes one that is free.")
@click.option(
    "--token", envvar="ALIGNVID_TOKEN", help="What who opens it must give; ALIGNVID_TOKEN keeps it out of the history."
)
@click.option(
    "--judge", help='Of "Until it is followed": "rule" (the miniature), "transformers", "openai", or installed.'
)
@_with_judge_options
def app(out: Path, host: str, port: int, token: str | None, judge: str | None, **options: Any) -> None:
    """Show the page: picture, prompt and slider in, videos without and with AlignVid beside each other out.

    It answers this machine alone unless --host says otherwise. Runs stay in --out, as `alignvid generate` writes them.
    """
    if shows_progress():
        say("loading the page")
    from alignvid.app import Door, JudgeChoice, serve

    asked = {field: value for name, field in JUDGE_FIELDS.items() if (value := options.pop(name)) is not None}
    if asked and judge is None:
        raise click.UsageError("--judge-… and --base-url belong to a judge; add --judge transformers or openai.")
    choice = JudgeChoice(judge, asked)
    # Quieting the libraries reads them: torch and diffusers take longer than the page.
    serve(out, Door(host, port, token), given(options), choice, on_ready=_say_ready, on_loading=quiet_libraries)


def _say_ready(url: str) -> None:
    click.echo(f"Open {url}")
