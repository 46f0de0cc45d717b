"""alignvid bench audit: let people check a judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignvid.cli.terminal import examples, json_option, next_line, print_json, print_table

if TYPE_CHECKING:
    from alignvid.bench.audits.agreement import Agreement, Estimate
    from alignvid.bench.audits.audit import AnsweredQuestion


@click.command(
    epilog=examples("alignvid bench audit RUN --count 200", "alignvid bench audit RUN --answers audit-answers.json")
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", help="Whose answers, where there are several judges'.")
@click.option("--protocol", help="Which way of asking, where there are several.")
@click.option("--settings", help="Beginning of the settings' digest, where there are several.")
@click.option("--count", default=200, show_default=True, type=click.IntRange(min=1), help="Questions to draw.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the draw, and of the intervals."
)
@click.option("--answers", type=click.Path(path_type=Path), help="A file that the page saved, to compare with.")
@json_option
def audit(
    run: Path,
    judge: str | None,
    protocol: str | None,
    settings: str | None,
    count: int,
    seed: int,
    answers: Path | None,
    as_json: bool,
) -> None:
    """Draw a blind sample of a judge's questions as a page for people, or read their answers back.

    The page shows neither variant nor verdict nor expected answer. With --answers: sensitivity, specificity, Cohen's
    kappa, and scores corrected for the judge's errors.
    """
    from alignvid.bench.audits.audit import answered_questions, check_videos, draw
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.scoring.judged_run import Asked, read_judged_run
    from alignvid.report.audit import write_audit_page

    judged = read_judged_run(RunFolder(run), Asked(judge, protocol, settings))
    questions = answered_questions(judged)
    if answers is not None:
        _compare(questions, answers, seed, as_json)
        return
    drawn = draw(questions, count, seed)
    check_videos(run, drawn)
    page = write_audit_page(run, drawn)
    if as_json:
        print_json({"page": str(page), "questions": len(drawn), "of": len(questions)})
    else:
        click.echo(f"{len(drawn)} of {len(questions)} answered questions, of {judged.judging.judge}")
        click.echo(f"Open {page}")
        next_line("bench", "audit", run, "--answers", "audit-answers.json")


def _compare(questions: list[AnsweredQuestion], answers: Path, seed: int, as_json: bool) -> None:
    from alignvid.bench.audits.agreement import agreement
    from alignvid.bench.audits.audit import read_human_answers

    people = read_human_answers(answers, {item.key: item for item in questions})
    found = agreement(questions, people, seed=seed)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Agreement) -> None:
    from alignvid.bench.audits.agreement import FEWEST

    click.echo(f"{found.n} questions answered by both, {found.unclear} unclear to people, {found.unparsed} unparsed\n")
    measures = {
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "agreement": found.agreement,
        "Cohen's kappa": found.kappa,
        **{f"agreement, {name}": value for name, value in found.by_variant.items()},
    }
    rows = [(name, *_cells(value), str(value.n)) for name, value in measures.items()]
    print_table(("judge and people", "value", "95 % interval", "n"), rows)
    click.echo()
    scores = [
        (
            score.variant,
            f"{score.judged:.3f}",
            *(("too few", "–") if score.has_too_few else _cells(score.corrected)),
            str(score.corrected.n),
        )
        for score in found.scores
    ]
    print_table(("variant", "judged", "corrected", "95 % interval", "samples"), scores)
    click.echo("\nCorrected after Rogan and Gladen, with one pair of errors for all variants; unparsed left out.")
    if any(score.has_too_few for score in found.scores):
        click.echo(f"Too few: a correction needs {FEWEST} questions that people answered yes and {FEWEST} no.")


def _cells(estimate: Estimate) -> tuple[str, str]:
    if estimate.value is None:
        return "–", "–"
    return f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"
