"""The commands that make videos: generate and demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.following import following_options, run_until_followed, take_following
from alignvid.cli.options import RAY_OPTIONS, given, spec_options
from alignvid.cli.terminal import examples, json_option, print_json, quiet_libraries, resumable, say, shows_progress
from alignvid.cli.watching import Watch, say_lines, say_starting

if TYPE_CHECKING:
    from alignvid.generate import Generation, Job, JobResult, ObservationSpec


def _ray_options(command: Any) -> Any:
    for option in reversed(RAY_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        'alignvid generate --image examples/scene-3.png --prompt "remove the yellow square" --out out --compare',
        "alignvid generate --jobs examples/jobs.jsonl --out out-jobs --compare",
        'alignvid generate --image examples/scene-3.png --prompt "remove the yellow square" '
        "--out out-loop --until-followed --judge rule",
    )
)
@spec_options()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--compare", is_flag=True, help="Also the baseline at the same seed, both side by side, and a page.")
@click.option(
    "--jobs",
    type=click.Path(path_type=Path),
    help="JSON Lines file: id, prompt, image per line. Exit code 1: a line or a job was left out.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Repeat the generation of a record.json.")
@click.option("--strict", is_flag=True, help="An error where the gain does not act as its recipe says, not a warning.")
@click.option("--observe", is_flag=True, help="Also save what attention does; see `alignvid inspect --run`.")
@click.option("--words", help='Words of the prompt to make attention maps of: "cat,sunglasses"; with --observe.')
@click.option("--observe-blocks", help="Blocks to observe, as for --blocks; all unless given.")
@click.option("--observe-steps-window", help="Steps to observe, as for --steps-window; all unless given.")
@following_options
@_ray_options
@json_option
def generate(
    out: Path,
    compare: bool,
    jobs: Path | None,
    record: Path | None,
    strict: bool,
    observe: bool,
    words: str | None,
    observe_blocks: str | None,
    observe_steps_window: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a video that follows its prompt, and a record that can repeat it.

    What was chosen goes to stderr before anything runs, paths and counts to stdout after it. Ctrl-C leaves the folder
    as it was; of --jobs, finished ones stay, and the same line makes the others.
    """
    alone = {"--jobs": jobs is not None, "--record": record is not None, "--compare": compare, "--observe": observe}
    wanted = take_following(options, alone)
    pool = {name: options.pop(name) for name in ("ray", "workers", "gpus_per_worker")}
    fields = given(options)
    watched = {"words": words, "blocks": observe_blocks, "steps": observe_steps_window}
    _check_combination(fields, jobs, record)
    _check_pool(pool, jobs)
    _check_observation(observe, watched, jobs)
    say_starting()
    quiet_libraries()
    if wanted is not None:
        run_until_followed(fields, out, wanted, strict, as_json)
    elif jobs is not None:
        _run_jobs(jobs, fields, out, {"compare": compare, "strict": strict}, pool, as_json)
    else:
        _run_one(fields, out, compare, record, strict, as_json, watched if observe else None)


@click.command(epilog=examples("alignvid demo --out demo", "alignvid demo --out demo --json"))
@click.option("--out", default=Path("demo"), type=click.Path(path_type=Path), help="Folder for the results; demo.")
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Eight made scenes without and with AlignVid on the embedded miniature, judged by a rule, on one page."""
    say_starting()
    quiet_libraries()
    from alignvid.demo import run_demo

    with Watch(is_for_many=True) as watch, resumable():
        made = run_demo(out, on_result=_say_result, on_choice=say_lines, on_progress=watch.show)
    if as_json:
        print_json(made.to_dict())
    else:
        result = made.to_dict()
        for role in ("baseline", "alignvid"):
            click.echo(
                f"{role:9} edit shown {result['edit_shown'][role]} of {result['scenes']}, "
                f"rest untouched {result['rest_untouched'][role]} of {result['scenes']}"
            )
        click.echo(f"Open {made.page}")
    sys.exit(1 if made.to_dict()["failed"] else 0)


def _check_combination(fields: dict[str, Any], jobs: Path | None, record: Path | None) -> None:
    if jobs is not None and record is not None:
        raise click.UsageError("--jobs and --record exclude each other; give one of them.")
    if jobs is not None and (both := sorted({"prompt", "image", "negative_prompt"} & set(fields))):
        raise click.UsageError(
            f"--{both[0].replace('_', '-')} belongs into the lines of the jobs file; leave it out here."
        )
    if jobs is None and record is None and "prompt" not in fields:
        raise click.UsageError('--prompt is missing; say what the video should show, such as --prompt "the cat jumps".')


def _check_pool(pool: dict[str, Any], jobs: Path | None) -> None:
    if pool["ray"] is not None and jobs is None:
        raise click.UsageError("--ray runs a list of jobs; add --jobs FILE, or leave it out.")
    if pool["ray"] is None and (pool["workers"], pool["gpus_per_worker"]) != (1, 0.0):
        raise click.UsageError("Workers and their GPUs are for Ray; add --ray local, or leave them out.")


_OBSERVATION_FLAGS = {"words": "--words", "blocks": "--observe-blocks", "steps": "--observe-steps-window"}


def _check_observation(observe: bool, watched: dict[str, str | None], jobs: Path | None) -> None:
    if jobs is not None and observe:
        raise click.UsageError("--observe watches a single generation; leave out --jobs, or observe one of them alone.")
    if not observe and (said := [name for name, value in watched.items() if value is not None]):
        flag = _OBSERVATION_FLAGS[said[0]]
        raise click.UsageError(f"{flag} says what to observe; add --observe, or leave it out.")


def _run_one(
    fields: dict[str, Any],
    out: Path,
    compare: bool,
    record: Path | None,
    strict: bool,
    as_json: bool,
    watched: dict[str, str | None] | None,
) -> None:
    from alignvid.generate import GenerationSpec, repeat
    from alignvid.generate import generate as run
    from alignvid.report.page import PAGE_FILE
    from alignvid.report.rows import comparison_files

    companions = comparison_files if compare else None
    options: dict[str, Any] = {"compare": compare, "companions": companions, "strict": strict}
    options["observation"] = None if watched is None else _observation(watched)
    with Watch() as watch:
        options |= {"on_plan": lambda planned: say_lines(planned.lines()), "on_progress": watch.show}
        if record is None:
            made = run(GenerationSpec(**fields), out, **options)
        else:
            made = repeat(record, out, changes=fields, **options)
    if as_json:
        print_json(made.record.to_dict())
        return
    _print_made(made)
    if compare:
        click.echo(f"Open {made.folder / PAGE_FILE}")


def _print_made(made: Generation) -> None:
    """What happened, how long it took, and where to look."""
    acted, timings = made.record.attachment, made.record.timings
    sites = f"{acted['sites']} {'site' if acted['sites'] == 1 else 'sites'}"
    click.echo(f"acted in {acted['active_forwards']} of {acted['forwards']} forwards at {sites}")
    names = {"load_s": "loading", "baseline_s": "without AlignVid", "alignvid_s": "with AlignVid"}
    click.echo(", ".join(f"{names[name]} {seconds:.1f} s" for name, seconds in timings.items() if name in names))
    for output in made.record.outputs.values():
        click.echo(made.folder / output["file"])
    for trace in made.record.traces.values():
        click.echo(made.folder / trace["file"])
    click.echo(made.folder / "record.json")


def _observation(watched: dict[str, str | None]) -> ObservationSpec:
    from alignvid.generate import ObservationSpec, parse_words

    choice: dict[str, Any] = {name: value for name, value in watched.items() if value is not None}
    if "words" in choice:
        choice["words"] = parse_words(choice["words"])
    return ObservationSpec(**choice)


def _run_jobs(
    path: Path, fields: dict[str, Any], out: Path, options: dict[str, bool], pool: dict[str, Any], as_json: bool
) -> None:
    from alignvid.generate import read_jobs
    from alignvid.report.page import write_page
    from alignvid.report.rows import jobs_page, write_own_pages

    dropped: list[str] = []
    jobs = read_jobs(path, fields, on_dropped=dropped.append)
    for sentence in dropped:
        say(f"left out: {sentence}")
    results = _results(jobs, out, options, pool)
    write_own_pages(results, back="All jobs")
    page = write_page(out, jobs_page(results))
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        failed_count = sum(result.error is not None for result in results)
        kept_count = sum(result.was_finished for result in results)
        kept = f", {kept_count} of them before: their folders hold the same job's record, so they were skipped"
        click.echo(f"{len(results) - failed_count} of {len(results)} jobs finished{kept if kept_count else ''}")
        if dropped:
            click.echo(f"{len(dropped)} lines of {path} cannot be read and were left out")
        click.echo(f"Open {page}")
    sys.exit(1 if dropped or any(result.error for result in results) else 0)


def _results(jobs: list[Job], out: Path, options: dict[str, bool], pool: dict[str, Any]) -> list[JobResult]:
    """In this process, or on Ray's workers."""
    said: dict[str, Any] = {"on_result": _say_result, "on_choice": say_lines}
    with Watch(is_for_many=True) as watch, resumable():
        if pool["ray"] is None:
            from alignvid.generate import run_jobs

            return run_jobs(jobs, out, **options, **said, on_progress=watch.show)
        from alignvid.bench.runs.job_list import run_jobs_on_ray

        return run_jobs_on_ray(jobs, out, **options, **pool, **said)


def _say_result(result: JobResult) -> None:
    """A failure always, progress to who watches."""
    if result.error or shows_progress():
        state = "was there, skipped" if result.was_finished else "done"
        say(f"{result.id}: {result.error or state}")
