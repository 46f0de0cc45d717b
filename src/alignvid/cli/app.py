"""The command that shows the page: app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alignvid.cli.options import given, spec_options
from alignvid.cli.terminal import examples, quiet_libraries, say, shows_progress


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
def app(out: Path, host: str, port: int, token: str | None, **options: Any) -> None:
    """Show the page: picture, prompt and slider in, videos without and with AlignVid beside each other out.

    It answers this machine alone unless --host says otherwise. Runs stay in --out, as `alignvid generate` writes them.
    """
    if shows_progress():
        say("loading the page")
    quiet_libraries()
    from alignvid.app import Door, serve

    serve(out, Door(host, port, token), given(options), on_ready=_say_ready)


def _say_ready(url: str) -> None:
    click.echo(f"Open {url}")
