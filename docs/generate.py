"""Write docs/cli.md from the commands' own help, docs/models.md from what the tests of families recorded and
docs/compatibility.md from what those of combinations did.

`--check` fails where a page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from alignvid import presets
from alignvid.cli.main import cli
from alignvid.models import families
from alignvid.models.exercised import PipelineFacts, model_table, recorded_combinations
from alignvid.models.refused import REFUSED

DOCS = Path(__file__).parent
CLI_HEAD = "# What can I type?\n\nWritten by `make docs` from the commands' own help.\n"
WIDTH = 100

MODELS_HEAD = """# Which models does it work with?

Written by `make docs` from what the tests found (`pytest tests/models --run-slow --record-models`). Each pipeline below
was run from end to end: the real diffusers class, made tiny by its config, with random weights, on a CPU; of modular
ones the denoising. That shows that the gain acts where it should; it says nothing about how much it helps a released
model.

{pipelines} pipelines of {families} families.

{claims}

An empty cell: not tried, as where the pipeline has no second branch. A target is `site.stream`: `video` are the
generated tokens, of a picture too, and `image` those of a reference.
"""


CLAIMS = {
    "neutral gain": "with γ = 1 the output is bit-equal",
    "gain": "with its own preset and γ = 1.35 the output changes",
    "every target": "each target alone changes the output",
    "step window": "the first step alone is modulated, in all of its passes",
    "CFG branch": '`branch="cond"` and `"uncond"` act on that branch alone',
    "detach": "after detaching the output is bit-equal to before",
    "explicit softmax": "each target equals softmax(gain · q kᵀ / √d) v written out, within 1e-6",
}
"""What a column says: passed on one variant of the pipeline at least, and failed on none."""

COMPATIBILITY_HEAD = """# Does it work together with …?

Written by `make docs` from what the tests found (`pytest tests/combinations --run-slow --record-models`). Each cell was
run on the real diffusers class, made tiny by its config, with random weights in float32 on a CPU. A technique was
applied after attaching and, in another run, before. "yes": every output is that of what it is compared with, within
the tolerance. torchao 0.18 was installed by hand for its row. An empty cell: not tried, or diffusers has no such method
for that pipeline.
"""

COMBINATIONS = {
    "LoRA": "merged by hand into the weights; 2e-5",
    "two LoRAs": "merged by hand, with their weights; 2e-5",
    "fused LoRAs": "merged by hand, with their weights; 2e-5",
    "LoRA taken off": "the model before; bit-equal",
    "torchao int8, weights only": "the weights read back in float32; 2e-5",
    "fp8 storage": "layer-wise casting; the weights rounded to fp8; bit-equal",
    "fused QKV": "not fused; 2e-5",
    "attention: native": "the default; bit-equal",
    "attention: _native_math": "the default; 2e-5",
    "group offload, leaves": "not offloaded; bit-equal",
    "group offload, blocks": "not offloaded; bit-equal",
    "sequential offload": "not offloaded; bit-equal",
    "model offload": "not offloaded; bit-equal",
    "FirstBlockCache": "at both edges of the step window, no cache; 1e-6",
    "MagCache": "at both edges of the step window, no cache; 1e-6",
    "TaylorSeer": "at both edges of the step window, no cache; 1e-6",
    "PAB": "at both edges of the step window, no cache; 1e-6",
    "FasterCache": "attention skipped; at both edges of the step window, no cache; 1e-6",
    "FasterCache, batched guidance": "unconditional half guessed; at both edges, no cache; 1e-6",
    "interrupted by an error": "the run before attaching; bit-equal",
    "interrupted by Ctrl-C": "the run before attaching; bit-equal",
    "callback_on_step_end": "detached by it, a window that ends there; bit-equal",
    "deepcopy": "the original; bit-equal, and detached alone",
    "save and load": "saved while attached, the model before; bit-equal where weights lie on 16 bytes",
    "8 threads": "eight pipelines one after the other; 1e-5, a hundredth of what 0.1 of gamma changes",
}
"""What each is compared with, and the largest difference allowed."""

CACHES_NOTE = """
## Caches at a window's edge

Where the gain begins or ends to act, alignvid makes the cache forget what it kept, so that this forward is computed
whole: nothing computed with a gain is used without one, and nothing without one inside the window. Elsewhere the cache
skips as before. TaylorSeer counts its warm-up steps again from there; PAB and FasterCache count their intervals from
there. The pipelines of FramePack and Flux Kontext name no cache context, without which FirstBlockCache and TaylorSeer
of diffusers do not run: call them within `pipe.transformer.cache_context("run")`.
"""


def cli_page() -> str:
    parts = [CLI_HEAD, _section("alignvid", cli)]
    parts += [_section(name, command) for name, command in _commands("alignvid", cli)]
    return "\n".join(parts)


def models_page() -> str:
    built_in = [family for family in families().values() if family.pipelines]
    table = model_table(built_in)
    claims = ["| column | what passed |", "|---|---|", *(f"| {claim} | {words} |" for claim, words in CLAIMS.items())]
    pipelines = sum("runs" in facts.exercised for facts in table)
    head = MODELS_HEAD.format(pipelines=pipelines, families=len(built_in), claims="\n".join(claims))
    return "\n".join([head, *_rows(table), "", *_refusals(table)])


def compatibility_page() -> str:
    entries = recorded_combinations()
    columns = ("together with", "compared with; tolerance", *(entry["pipeline"] for entry in entries))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for combination, words in COMBINATIONS.items():
        ticks = ["yes" if combination in entry["exercised"] else "" for entry in entries]
        lines.append(f"| {' | '.join((combination, words, *ticks))} |")
    return "\n".join([COMPATIBILITY_HEAD, *lines, CACHES_NOTE])


def _rows(table: list[PipelineFacts]) -> list[str]:
    columns = ("family", "pipeline", "targets", "presets", *CLAIMS)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for facts in table:
        targets = ", ".join(f"`{target}`" for target in facts.targets)
        ticks = ["yes" if claim in facts.exercised else "" for claim in CLAIMS]
        lines.append(f"| {' | '.join((facts.family, facts.pipeline, targets, _presets(facts.family), *ticks))} |")
    return lines


def _presets(family: str) -> str:
    names = [name for name in presets.names() if presets.load(name).family == family]
    return ", ".join([*names, presets.GENERIC])


def _refusals(table: list[PipelineFacts]) -> list[str]:
    """Reasons, each with the pipelines that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for facts in table:
        for target, reason in facts.refused.items():
            by_reason.setdefault(reason, []).append(f"`{target}` of {facts.pipeline}")
    for name, reason in REFUSED.items():
        by_reason.setdefault(reason, []).append(name)
    lines = [f"- {', '.join(where)}: {reason}" for reason, where in by_reason.items()]
    return ["## What cannot be acted on, and why", "", *lines, ""]


def _commands(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(f"{prefix} {name}", command)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH)
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


PAGES = {"cli.md": cli_page, "models.md": models_page, "compatibility.md": compatibility_page}


def main() -> None:
    for file, page in PAGES.items():
        path, text = DOCS / file, page()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{file} is stale; run `make docs` and commit it.")


if __name__ == "__main__":
    main()
