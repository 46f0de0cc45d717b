"""alignvid trial run: say what a trial costs, ask, make its clips, and the page on which people compare them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.bench_run import RunProgress, integers
from alignvid.cli.options import given, spec_options
from alignvid.cli.terminal import examples, json_option, next_line, print_json, quiet_libraries, resumable, say
from alignvid.cli.watching import say_lines, say_starting

if TYPE_CHECKING:
    from alignvid.bench.trials.cost import Cost
    from alignvid.bench.trials.registration import Registration
    from alignvid.bench.trials.running import TrialResult

_SHARED = ("model", "steps", "guidance", "size", "frames", "fps", "device", "dtype", "offload")

_OPTIONS = (
    click.option("--data", help='As for `bench run`; "omiti2v" unless given, for the miniature "omitshapes".'),
    click.option(
        "--count", "scenes", type=click.IntRange(min=2), default=12, show_default=True, help="Scenes that are drawn."
    ),
    click.option("--seed", "seeds", default="0,1", show_default=True, help="Noises of each scene."),
    click.option(
        "--arms",
        metavar="A,B,…",
        help="still, baseline, released, generic, follow-0.4, follow-0.8, guidance, or variants as `bench run` has "
        "them; those seven unless given.",
    ),
    click.option(
        "--lora", "loras", multiple=True, help="A LoRA's .safetensors file; transformer_2=FILE for the second."
    ),
    click.option(
        "--comfyui", metavar="ADDRESS", help="A ComfyUI on this machine makes the clips: http://127.0.0.1:8188."
    ),
    click.option("--workflow", help="Its workflow, exported in API format, with {{prompt}}, {{image}} and {{seed}}."),
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return spec_options(*_SHARED)(command)


@click.command(
    epilog=examples(
        "alignvid trial run --count 2 --seed 0 --steps 4 --out trial --yes",
        "alignvid trial run --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --offload model --out trial",
        "alignvid trial run --comfyui http://127.0.0.1:8188 --workflow my-workflow-api.json --out trial",
    )
)
@_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The trial's folder; resumed if it exists.")
@click.option("--yes", is_flag=True, help="Do not ask whether the cost is all right.")
@json_option
def run(out: Path, yes: bool, as_json: bool, **options: Any) -> None:
    """Write the plan down, make the clips, and the blind page. To resume a stopped trial, repeat the command.

    Exit code 1: a clip failed.
    """
    spec = _spec(options)
    _refuse_silence(out, yes)
    say_starting()
    quiet_libraries()
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.trials.running import run_trial
    from alignvid.report.blind import write_blind_page

    with RunProgress() as progress, resumable():
        result = run_trial(
            spec,
            out,
            on_plan=_say_plan,
            consent=lambda cost: _consent(cost, yes),
            on_run=progress.begin,
            on_record=progress.advance,
        )
    if result is None:
        say("Nothing was run, and nothing was written.")
        sys.exit(1)
    page, pairs = write_blind_page(RunFolder(out), result.registration)
    _print(result, page, pairs, as_json)
    sys.exit(1 if result.run.failed else 0)


def _spec(options: dict[str, Any]) -> Any:
    from alignvid.bench.trials.spec import TrialSpec

    fields = given({name: value for name, value in options.items() if name not in ("seeds", "arms", "loras")})
    if options["arms"] is not None:
        fields["arms"] = tuple(part.strip() for part in options["arms"].split(",") if part.strip())
    return TrialSpec(**fields, seeds=integers(options["seeds"]), loras=tuple(options["loras"]))


def _refuse_silence(out: Path, yes: bool) -> None:
    """Before a model is loaded: there is nobody to ask."""
    if not yes and not sys.stdin.isatty() and not (out / "trial.json").is_file():
        raise click.UsageError(
            "A trial says what it will cost and asks, and there is no terminal here to answer on; add --yes."
        )


def _say_plan(plan: Registration) -> None:
    lines = {
        "model": f"{plan.model['name']}, in {plan.host}",
        "scenes": f"{len(plan.scenes)}, with {len(plan.seeds)} noise{'s' * (len(plan.seeds) > 1)} each",
        "arms": ", ".join(f"{name} (primary)" if name == plan.primary else name for name in plan.arms),
        "plan": plan.plan_sha256[:16],
    }
    if plan.left_out:
        lines["left out"] = "; ".join(f"{name}: {reason}" for name, reason in plan.left_out.items())
    say_lines(lines)


def _consent(cost: Cost, yes: bool) -> bool:
    say_lines(cost.lines())
    return yes or click.confirm("Begin?", default=False, err=True)


def _print(result: TrialResult, page: Path, pairs: int, as_json: bool) -> None:
    folder = result.run.folder
    if as_json:
        print_json(
            {**result.run.to_dict(), "plan_sha256": result.registration.plan_sha256, "page": str(page), "pairs": pairs}
        )
        return
    parts = [
        f"{result.run.made} clips made",
        f"{result.run.done_before} were there",
        f"{len(result.run.failed)} failed",
    ]
    click.echo(f"{', '.join(parts)}, of {result.run.planned} planned")
    for count in result.measured.counts if result.measured else ():
        if count.error:
            say(f"{count.metric} cannot run: {count.error}")
    click.echo(f"Open {page}: {pairs} pairs; save your answers there")
    next_line("trial", "record", folder, "--answers", "trial-answers.json")
    click.echo("A judge's opinion beside people's: alignvid bench judge --help")
