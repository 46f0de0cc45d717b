"""alignvid bench score: numbers from the records of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.terminal import examples, json_option, next_line, print_table, print_text

if TYPE_CHECKING:
    from alignvid.report.headline import Headline


class Margin(click.ParamType):
    """METRIC=LOSS."""

    name = "metric=loss"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split and check the form; whether the metric was measured is found out later."""
        metric, _, text = str(value).partition("=")
        loss = _number(text)
        if not metric.strip() or loss is None or not 0 <= loss < math.inf:
            self.fail(
                f"{value!r} is no margin; write it as aesthetic_quality=0.01, with a loss of 0 or more.", param, ctx
            )
        return metric, loss


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_OPTIONS = (
    click.argument("run", type=click.Path(path_type=Path)),
    click.option("--judge", help="Whose answers, where there are several judges'."),
    click.option("--protocol", help="Which way of asking, where there are several."),
    click.option("--settings", help="Beginning of the settings' digest, where there are several."),
    click.option("--variants", metavar="A,B,…", help="Only these; the others are compared with the first."),
    click.option(
        "--margin",
        "margins",
        type=Margin(),
        multiple=True,
        help="A loss in a metric that can be borne; may be repeated.",
    ),
)


def scoring_options(command: Callable) -> Callable:
    """Which records are scored, and against what."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def scorecard(
    run: Path,
    judge: str | None,
    protocol: str | None,
    settings: str | None,
    variants: str | None,
    margins: tuple[tuple[str, float], ...],
) -> Any:
    """The scores that the options ask for."""
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.scoring.judged_run import Asked
    from alignvid.bench.scoring.scorecard import score_run

    names = tuple(name.strip() for name in variants.split(",")) if variants else None
    return score_run(RunFolder(run), Asked(judge, protocol, settings, names), dict(margins))


@click.command(
    epilog=examples(
        "alignvid bench score RUN",
        "alignvid bench score RUN --variants baseline,alignvid --margin aesthetic_quality=0.01",
    )
)
@scoring_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print every number as CSV.")
@click.option("--all", "is_whole", is_flag=True, help="Print the tables by category and of metrics, too.")
def score(run: Path, as_json: bool, as_csv: bool, is_whole: bool, **asked: Any) -> None:
    """Score RUN from its records; writes scores.json, scores.csv and scores.md into it.

    Prints each variant's accuracy and the paired verdict on each against the first; --all prints the tables.

    Accuracy is the mean over samples of the share of questions right, with a 95 % interval. docs/scores.md says what is
    done with unparsed replies, failed answers and missing videos.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; give one of them.")
    if is_whole and (as_json or as_csv):
        raise click.UsageError("--json and --csv hold every number; leave --all out.")
    card = scorecard(run, **asked)
    from alignvid.report.headline import headline
    from alignvid.report.long_table import csv_text
    from alignvid.report.scores_files import write_scores
    from alignvid.report.tables import IN_TERMINAL, NOT_IN_TERMINAL, metric_tables, score_tables, sentences

    written = write_scores(run, card)
    if as_json:
        click.echo(card.to_json().decode(), nl=False)
    elif as_csv:
        click.echo(csv_text(card), nl=False)
    else:
        for sentence in sentences(card):
            print_text(sentence)
        for table in (*score_tables(card, IN_TERMINAL), *metric_tables(card)) if is_whole else ():
            shown = table.without(*NOT_IN_TERMINAL).without_empty()
            click.echo(f"\n{shown.title}")
            print_table(shown.headings, shown.rows)
            if shown.note:
                print_text(shown.note)
        _print_headline(headline(card))
        click.echo(f"\nAll columns, by sub-category and domain, too: {written[-1]}")
        if not is_whole:
            click.echo("By category, and of metrics: add --all.")
        next_line("bench", "report", run)


def _print_headline(found: Headline) -> None:
    click.echo()
    print_table(found.table.headings, found.table.rows)
    if found.verdicts:
        click.echo()
    for verdict in found.verdicts:
        click.echo(verdict)
