"""alignvid bench judge: ask a judge what the videos of a run show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.options import SPEC_OPTIONS
from alignvid.cli.terminal import (
    examples,
    json_option,
    next_line,
    print_json,
    quiet_libraries,
    resumable,
    say,
    shows_progress,
)

if TYPE_CHECKING:
    from alignvid.bench.judges.judging import Tally
    from alignvid.bench.records import AnswerRecord


_JUDGE_OPTIONS = (
    click.option("--model", help="Folder or Hub id; for openai the server's name for it, its only one unless given."),
    click.option("--revision", help="Of a Hub model."),
    click.option("--device", help="cpu, cuda, cuda:1, or auto to spread over GPUs; cuda if there is one."),
    SPEC_OPTIONS["dtype"],
    click.option("--base-url", help="Of the server, ending in /v1; else OPENAI_BASE_URL. The key is OPENAI_API_KEY."),
    click.option("--concurrency", type=click.IntRange(min=1), help="Most requests in flight; 32 unless given."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), help="Seconds a request; 120."),
    click.option("--send", type=click.Choice(["video", "images"]), help="Frames as one video (default), or as images."),
)


def judge_options(command: Any) -> Any:
    """Add what a user may say about a judge, besides its name and protocol."""
    for option in reversed(_JUDGE_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "alignvid bench judge RUN --judge rule",
        "alignvid bench judge RUN --judge transformers --model Qwen/Qwen2.5-VL-7B-Instruct --device cuda",
        "alignvid bench judge RUN --judge openai --base-url http://127.0.0.1:8000/v1 --protocol logit",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", "name", required=True, help='"rule", "transformers", "openai" or an installed one.')
@click.option("--protocol", help='"paper" (128 tokens, read as text; default) or "logit" (P(yes)).')
@judge_options
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many samples.")
@json_option
def judge(run: Path, name: str, limit: int | None, as_json: bool, **options: Any) -> None:
    """Answer the questions about the videos of RUN, those that have no answer yet.

    To resume a stopped one, repeat the command: it asks again what FAILED. Exit code 1: some questions FAILED.
    """
    from alignvid.bench.judges import JudgeOptions, open_judge
    from alignvid.bench.judges.judging import judge_run
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.verdicts import Verdict

    folder = RunFolder(run)
    folder.info()  # before a model is loaded
    if name == "transformers":
        quiet_libraries()
    with resumable():
        tally = judge_run(
            folder, open_judge(name, JudgeOptions(**options)), limit=limit, on_answer=JudgeProgress().show
        )
    counts = {verdict.value: tally.verdicts[verdict] for verdict in Verdict}
    if as_json:
        print_json(_as_dict(tally, counts))
    else:
        _print(tally, counts)
        next_line("bench", "score", run)
    if tally.warning:
        click.echo(f"Warning: {tally.warning}", err=True)
    sys.exit(1 if counts["failed"] else 0)


class JudgeProgress:
    """A bar for who watches; failures in a line each, the first few."""

    _MOST_LINES = 5

    def __init__(self) -> None:
        self._bar: Any = None
        self._failures = 0

    def show(self, row: AnswerRecord, open_count: int) -> None:
        """One more answer of so many."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=open_count, unit="answer", disable=not shows_progress())
        if row.verdict == "failed":
            self._failures += 1
            if self._failures <= self._MOST_LINES:
                say(f"{row.sample}, {row.question}: {row.error}")
            elif self._failures == self._MOST_LINES + 1:
                say("… more failures: see answers.jsonl")
        self._bar.update()
        if self._bar.n == open_count:
            self._bar.close()


def _print(tally: Tally, counts: dict[str, int]) -> None:
    identity = tally.identity
    click.echo(f"{identity.judge}, protocol {identity.protocol}, settings {identity.digest}")
    click.echo(f"{tally.asked} answers now, {tally.kept} were there")
    click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))


def _as_dict(tally: Tally, counts: dict[str, int]) -> dict[str, Any]:
    identity = tally.identity
    return {
        "judge": identity.judge,
        "protocol": identity.protocol,
        "settings": identity.digest,
        "asked": tally.asked,
        "kept": tally.kept,
        "verdicts": counts,
    }
