"""alignvid bench audit: let people check a judge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.bench_judge import JudgeProgress, judge_options
from alignvid.cli.terminal import examples, json_option, next_line, print_json, print_table, quiet_libraries

if TYPE_CHECKING:
    from alignvid.bench.audits.agreement import Agreement, Estimate
    from alignvid.bench.audits.audit import AnsweredQuestion
    from alignvid.bench.audits.rates import Rates
    from alignvid.bench.scoring.statistics import Estimate as Interval

_QUESTIONS, _EXACT_SCENES = 200, 96


@click.command(
    epilog=examples(
        "alignvid bench audit RUN --count 200",
        "alignvid bench audit RUN --answers audit-answers.json",
        "alignvid bench audit FOLDER --exact --judge rule --count 24",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", help="Whose answers, where there are several judges'.")
@click.option("--protocol", help="Which way of asking, where there are several.")
@click.option("--settings", help="Beginning of the settings' digest, where there are several.")
@click.option("--count", type=click.IntRange(min=1), help="Questions to draw, 200; with --exact scenes, 96.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the draw, and of the intervals."
)
@click.option("--answers", type=click.Path(path_type=Path), help="A file that the page saved, to compare with.")
@click.option("--exact", is_flag=True, help="Render clips whose truth is known into RUN, and ask --judge about them.")
@judge_options
@json_option
def audit(
    run: Path,
    judge: str | None,
    protocol: str | None,
    settings: str | None,
    count: int | None,
    seed: int,
    answers: Path | None,
    exact: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw a blind sample of a judge's questions as a page for people, or read their answers back.

    The page shows neither variant nor verdict nor expected answer. With --answers: sensitivity, specificity, Cohen's
    kappa, and scores corrected for the judge's errors. With --exact no people and no run are needed: clips are rendered
    from OmitShapes, with the edit shown, not shown, elsewhere and half shown, and asked about in both polarities.
    """
    if exact:
        _exact(run, judge, protocol, count or _EXACT_SCENES, options, as_json)
        return
    if given := [name for name, value in options.items() if value is not None]:
        raise click.UsageError(f"--{given[0].removesuffix('_s').replace('_', '-')} is for --exact; leave it out.")
    from alignvid.bench.audits.audit import answered_questions, check_videos, draw
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.scoring.judged_run import Asked, read_judged_run
    from alignvid.report.audit import write_audit_page

    judged = read_judged_run(RunFolder(run), Asked(judge, protocol, settings))
    questions = answered_questions(judged)
    if answers is not None:
        _compare(questions, answers, seed, as_json)
        return
    drawn = draw(questions, count or _QUESTIONS, seed)
    check_videos(run, drawn)
    page = write_audit_page(run, drawn)
    if as_json:
        print_json({"page": str(page), "questions": len(drawn), "of": len(questions)})
    else:
        click.echo(f"{len(drawn)} of {len(questions)} answered questions, of {judged.judging.judge}")
        click.echo(f"Open {page}")
        next_line("bench", "audit", run, "--answers", "audit-answers.json")


def _exact(folder: Path, name: str | None, protocol: str | None, scenes: int, options: Any, as_json: bool) -> None:
    from alignvid.bench.audits.exact import exact_samples, write_clips
    from alignvid.bench.audits.rates import rates, with_truth
    from alignvid.bench.judges import JudgeOptions, open_judge
    from alignvid.bench.judges.judging import judge_run
    from alignvid.bench.run_folder import RunFolder
    from alignvid.fields import json_bytes
    from alignvid.files import writable_folder

    if name is None:
        raise click.UsageError("--exact asks a judge; name one, such as --judge rule.")
    samples, run = exact_samples(scenes), RunFolder(writable_folder(folder))
    if name == "transformers":
        quiet_libraries()
    judge = open_judge(name, JudgeOptions(protocol=protocol, **options))
    write_clips(run, samples)
    tally = judge_run(run, judge, limit=scenes, on_answer=JudgeProgress().show)
    identity = (tally.identity.judge, tally.identity.protocol, tally.identity.digest)
    answers = [row for row in run.answers() if (row.judge, row.protocol, row.settings) == identity]
    found = rates(with_truth(samples, run.videos(), answers))
    values = {
        "judge": identity[0],
        "protocol": identity[1],
        "settings": identity[2],
        "scenes": scenes,
        **found.to_dict(),
    }
    run.write(f"exact-{identity[2]}.json", json_bytes(values, indent=2))
    if as_json:
        print_json(values)
    else:
        _print_rates(found, identity, run.path)
    sys.exit(1 if found.failed else 0)


def _print_rates(found: Rates, identity: tuple[str, str, str], folder: Path) -> None:
    judge, protocol, settings = identity
    click.echo(f"{judge}, protocol {protocol}, settings {settings}")
    click.echo(f"{found.answers} answers, {found.unparsed} unparsed (not right), {found.failed} failed\n")
    measures = {
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "yes-bias": found.yes_bias,
        "denials less claims": found.denial_bias,
        **{f"accuracy, edit {name}": value for name, value in found.accuracy.items()},
        "yes to half an edit": found.half_shown_yes,
        **({} if found.brier is None else {"Brier score of P(yes)": found.brier}),
    }
    print_table(
        ("clips of known truth", "value", "95 % interval", "scenes"), [_row(*pair) for pair in measures.items()]
    )
    if found.bins:
        click.echo()
        bins = [
            (f"{b.low:.1f} to {b.high:.1f}", f"{b.mean_p_yes:.3f}", f"{b.true_share:.3f}", str(b.n)) for b in found.bins
        ]
        print_table(("P(yes)", "mean", "share true", "answers"), bins)
    click.echo(f"\nFlat shapes are no photographs. Clips, answers and rates are in {folder}.")


def _row(name: str, value: Estimate | Interval) -> tuple[str, ...]:
    return name, *_cells(value), str(value.n)


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


def _cells(estimate: Estimate | Interval) -> tuple[str, str]:
    if estimate.value is None:
        return "–", "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}", "–"
    return f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"
