"""The commands that make videos: generate and demo."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.terminal import examples, json_option, print_json, quiet_libraries, say, shows_progress

if TYPE_CHECKING:
    from alignvid.generate import JobResult, ObservationSpec

_SPEC_OPTIONS = {
    "model": click.option("--model", help='"miniature" (default), a diffusers pipeline folder, or a Hub id.'),
    "image": click.option("--image", help="Reference image; leave out for a text-to-video model."),
    "prompt": click.option("--prompt", help="What the video should show."),
    "negative-prompt": click.option("--negative-prompt", help="What it should not show; acts with a guidance above 1."),
    "preset": click.option(
        "--preset", help="Preset, or path of a recipe's .toml file; found from the model unless named."
    ),
    "recipe": click.option(
        "--recipe",
        help='In place of a preset and the next five: "gamma=1.5 steps=0.0-0.3"; of several modulations '
        '"streams=text & kind=energy streams=image". Lists with +: blocks=0+2-7.',
    ),
    "gamma": click.option("--gamma", type=float, help="Strength of AlignVid; 1 changes nothing, the paper uses 1.35."),
    "steps-window": click.option("--steps-window", help='When: "0.0-0.3" of the steps, "noise>0.9", or "all".'),
    "blocks": click.option("--blocks", help='Where: "all", "first-half", "0,2-7", or "stack=0-7;other_stack=all".'),
    "streams": click.option(
        "--streams", help='Whose keys are scaled: "text", "text,image", …; see `alignvid inspect`.'
    ),
    "branch": click.option(
        "--branch", type=click.Choice(["both", "cond", "uncond"]), help="Pass of guidance in which it acts."
    ),
    "seed": click.option("--seed", type=int, help="Of the initial noise; 0 unless given."),
    "steps": click.option("--steps", type=int, help="Denoising steps."),
    "guidance": click.option("--guidance", type=float, help="Scale of classifier-free guidance."),
    "width": click.option("--width", type=int, help="Pixels, a multiple of 16; with --height."),
    "height": click.option("--height", type=int, help="Pixels, a multiple of 16; with --width."),
    "frames": click.option("--frames", type=int, help="Length of the video in frames."),
    "fps": click.option("--fps", type=float, help="Frames a second of the file."),
    "device": click.option("--device", help="cpu, cuda, cuda:1 or mps; the best one here unless given."),
    "dtype": click.option(
        "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Format of the weights."
    ),
    "offload": click.option(
        "--offload", type=click.Choice(["none", "model", "sequential"]), help="What waits in main memory."
    ),
    "max-pixels": click.option("--max-pixels", type=int, help="Limit on the reference image; 50 million unless given."),
}


def spec_options(*names: str) -> Callable[[Any], Any]:
    """Options for these fields of the spec, in this order; for all of them if none is named."""

    def add(command: Any) -> Any:
        for name in reversed(names or tuple(_SPEC_OPTIONS)):
            command = _SPEC_OPTIONS[name](command)
        return command

    return add


@click.command(
    epilog=examples(
        'alignvid generate --image examples/scene-1.png --prompt "add a green circle at the top left" '
        "--out out --compare",
        "alignvid generate --jobs examples/jobs.jsonl --out out-jobs --compare",
    )
)
@spec_options()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--compare", is_flag=True, help="Also the baseline at the same seed, both side by side, and a page.")
@click.option("--jobs", type=click.Path(path_type=Path), help="JSON Lines file: id, prompt, image per line.")
@click.option("--record", type=click.Path(path_type=Path), help="Repeat the generation of a record.json.")
@click.option("--strict", is_flag=True, help="An error where the gain does not act as its recipe says, not a warning.")
@click.option("--observe", is_flag=True, help="Also save what attention does; see `alignvid inspect --run`.")
@click.option("--words", help='Words of the prompt to make attention maps of: "cat,sunglasses"; with --observe.')
@click.option("--observe-blocks", help="Blocks to observe, as for --blocks; all unless given.")
@click.option("--observe-steps", help="Steps to observe, as for --steps-window; all unless given.")
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
    observe_steps: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a video that follows its prompt, and a record that can repeat it."""
    fields = {name: value for name, value in options.items() if value is not None}
    watched = {"words": words, "blocks": observe_blocks, "steps": observe_steps}
    _check_combination(fields, jobs, record)
    _check_observation(observe, watched, jobs)
    quiet_libraries()
    if jobs is not None:
        _run_jobs(jobs, fields, out, compare, strict, as_json)
    else:
        _run_one(fields, out, compare, record, strict, as_json, watched if observe else None)


@click.command(epilog=examples("alignvid demo --out demo", "alignvid demo --out demo --json"))
@click.option("--out", default=Path("demo"), type=click.Path(path_type=Path), help="Folder for the results; demo.")
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Eight made scenes without and with AlignVid on the embedded miniature, judged by a rule, on one page."""
    quiet_libraries()
    from alignvid.demo import run_demo

    made = run_demo(out, show_progress=shows_progress(), on_result=_tell)
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
        raise click.UsageError(f"--{both[0]} belongs into the lines of the jobs file; leave it out here.")
    if jobs is None and record is None and "prompt" not in fields:
        raise click.UsageError('--prompt is missing; say what the video should show, such as --prompt "the cat jumps".')


def _check_observation(observe: bool, watched: dict[str, str | None], jobs: Path | None) -> None:
    if jobs is not None and observe:
        raise click.UsageError("--observe watches a single generation; leave out --jobs, or observe one of them alone.")
    if not observe and (given := [name for name, value in watched.items() if value is not None]):
        flag = "--words" if given[0] == "words" else f"--observe-{given[0]}"
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
    options = {"compare": compare, "show_progress": shows_progress(), "companions": companions, "strict": strict}
    options["observation"] = None if watched is None else _observation(watched)
    if record is None:
        made = run(GenerationSpec(**fields), out, **options)
    else:
        made = repeat(record, out, changes=fields, **options)
    if as_json:
        print_json(made.record.to_dict())
        return
    for output in made.record.outputs.values():
        click.echo(made.folder / output["file"])
    for trace in made.record.traces.values():
        click.echo(made.folder / trace["file"])
    click.echo(made.folder / "record.json")
    if compare:
        click.echo(f"Open {made.folder / PAGE_FILE}")


def _observation(watched: dict[str, str | None]) -> ObservationSpec:
    from alignvid.generate import ObservationSpec, parse_words

    choice: dict[str, Any] = {name: value for name, value in watched.items() if value is not None}
    if "words" in choice:
        choice["words"] = parse_words(choice["words"])
    return ObservationSpec(**choice)


def _run_jobs(path: Path, fields: dict[str, Any], out: Path, compare: bool, strict: bool, as_json: bool) -> None:
    from alignvid.generate import read_jobs, run_jobs
    from alignvid.report.page import write_page
    from alignvid.report.rows import jobs_page, write_own_pages

    jobs = read_jobs(path, fields)
    options = {"compare": compare, "show_progress": shows_progress(), "on_result": _tell, "strict": strict}
    results = run_jobs(jobs, out, **options)
    write_own_pages(results, back="All jobs")
    page = write_page(out, jobs_page(results))
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        failed_count = sum(result.error is not None for result in results)
        click.echo(f"{len(results) - failed_count} of {len(results)} jobs finished")
        click.echo(f"Open {page}")
    sys.exit(1 if any(result.error for result in results) else 0)


def _tell(result: JobResult) -> None:
    """A failure always, progress to who watches."""
    if result.error or shows_progress():
        state = "was there" if result.was_finished else "done"
        say(f"{result.id}: {result.error or state}")
