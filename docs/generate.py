"""Write docs/cli.md from the commands' own help, docs/models.md, scripts.md and support.md from what the tests of
families recorded, docs/compatibility.md from what those of combinations did, and docs/api.md from the public names.

`--check` fails where a page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from alignvid import presets
from alignvid.cli.main import cli
from alignvid.models import families
from alignvid.models.evidence import PipelineFacts, model_table, recorded_combinations
from alignvid.models.refused import REFUSED
from api_page import ROOMS, api_page, room_page
from contract import contract_lines
from family_scripts import scripts_page
from support_page import support_page

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
generated tokens, of a picture too, and `image` those of a reference. A preset is listed where attaching it succeeded,
its blocks aside, which a tiny model has not all.
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
the tolerance. The rows of torchao 0.18 and bitsandbytes 0.50 were run by `make test-quantised`, which installs them
apart. An empty cell: not tried, or it cannot be; the reasons are below.
"""

GUIDED = "in the modular pipeline; each `branch`: keys scaled by hooks in its passes; bit-equal"
GUIDERS = (
    "ClassifierFreeGuidance",
    "ClassifierFreeGuidance, half of the steps",
    "ClassifierFreeZeroStarGuidance",
    "AdaptiveProjectedGuidance",
    "AdaptiveProjectedMixGuidance",
    "MagnitudeAwareGuidance",
    "TangentialClassifierFreeGuidance",
    "AutoGuidance",
    "SkipLayerGuidance",
    "SkipLayerGuidance, without CFG",
    "PerturbedAttentionGuidance",
    "SmoothedEnergyGuidance",
)

COMBINATIONS = {
    "LoRA": "merged by hand into the weights; 2e-5",
    "two LoRAs": "merged by hand, with their weights; 2e-5",
    "fused LoRAs": "merged by hand, with their weights; 2e-5",
    "LoRA taken off": "the model before; bit-equal",
    "torchao int8, weights only": "the weights read back in float32; 2e-5",
    "torchao int8 and LoRA": "the weights read back, and the LoRA merged into them; 2e-5",
    "bitsandbytes nf4": "the weights read back in float32; 2e-5",
    "bitsandbytes nf4 and LoRA": "the weights read back, and the LoRA merged into them; 2e-5",
    "bitsandbytes int8": "the gain in the weights of the norms; bit-equal",
    "GGUF file, Q8_0": "the weights read back from the file; 2e-5",
    "GGUF file, Q4_0": "the weights read back from the file; 2e-5",
    "GGUF file and LoRA": "the weights read back, and the LoRA merged into them; 2e-5",
    "fp8 storage": "layer-wise casting; the weights rounded to fp8; bit-equal",
    "fp8 storage and LoRA": "the weights rounded to fp8, and the LoRA merged into them; 2e-5",
    "fused QKV": "not fused; 2e-5",
    "attention: native": "the default; bit-equal",
    "attention: _native_math": "the default; 2e-5",
    "attention: _native_flash": "the default; 2e-5",
    "attention: flex": "the default; 2e-5",
    "torch.compile, regional": "eager; 1e-5, and no graph is added after the first step",
    "torch.compile, whole": "eager; 1e-5, and no graph is added after the first step",
    "torch.compile, reduce-overhead": "by region, inductor's mode; eager; 5e-5",
    "torch.compile and FirstBlockCache": "by region; eager with the cache; 1e-5",
    "torch.compile and TaylorSeer": "by region; eager with the cache; 1e-5",
    "torch.compile and group offload, leaves": "by region; eager, not offloaded; 1e-5",
    "torch.compile and group offload, blocks": "by region; eager, not offloaded; 1e-5",
    "torch.compile and sequential offload": "by region; eager, not offloaded; 1e-5",
    "torch.compile and model offload": "by region; eager, not offloaded; 1e-5",
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
    "cache-dit: DBCache": "at both edges of the step window, no cache; 1e-6",
    "cache-dit: DBCache F1B1": "the last block computed, too; at both edges, no cache; 1e-6",
    "cache-dit: TaylorSeer": "DBCache with its calibrator; at both edges, no cache; 1e-6",
    "cache-dit: SCM": "a static mask of steps; at both edges, no cache; 1e-6",
    "cache-dit: DBPrune": "at both edges of the step window, no cache; 1e-6",
    "cache-dit: transformer alone": "DBCache enabled on the transformer; at both edges, no cache; 1e-6",
    "cache-dit: two experts": "DBCache on Wan 2.2; at both edges, no cache; 1e-6",
    "para-attn": "its first-block cache; at both edges, no cache; 1e-6",
    "para-attn: TaylorSeer": "the same, extrapolated; at both edges, no cache; 1e-6",
    "CFG in two passes": "each `branch`: passes modulated by hand, 1e-5; the other pass bit-equal to a plain one",
    "CFG in one batch": "each `branch`: halves modulated by hand, 1e-5; the other half bit-equal to a plain one",
    "distilled guidance, one pass": "each `branch`: the pass modulated by hand; 1e-5",
    "no guidance": "each `branch`: the pass modulated by hand; 1e-5",
    "modular pipeline": "the normal pipeline's targets and step window; the same",
    **{f"guider: {name}": GUIDED for name in GUIDERS},
    "context parallelism, Ulysses": "two processes on a CPU, one process; 1e-5",
    "FSDP2": "two processes on a CPU, one process; 1e-5",
    "interrupted by an error": "the run before attaching; bit-equal",
    "interrupted by Ctrl-C": "the run before attaching; bit-equal",
    "callback that changes latents": "each forward modulated by hand on what the callback left, 1e-5",
    "two pipelines, one transformer": "one pipeline; bit-equal, and a second attachment refused",
    "callback_on_step_end": "detached by it, a window that ends there; bit-equal",
    "deepcopy": "the original; bit-equal, and detached alone",
    "save and load": "saved while attached, the model before; bit-equal where weights lie on 16 bytes",
    "8 threads": "eight pipelines one after the other; 1e-5, a hundredth of what 0.1 of gamma changes",
}
"""What each is compared with, and the largest difference allowed."""

REASONS = """
## What an empty cell is for

- CogVideoX calls torch's attention itself, so that `set_attention_backend` does nothing there, attached or not.
- `_native_flash` takes no mask, and Qwen-Image-Edit masks its text.
- diffusers reads GGUF files for Wan, Flux and Qwen-Image, not for the classes of FramePack and CogVideoX. It multiplies
  by a block's scale in float16, and so does what it is compared with.
- FramePack's class has no `fuse_qkv_projections`. Only CogVideoX runs its guidance in one batch.
- bitsandbytes int8, a quantised transformer with a LoRA, and compiling together with a cache or with offloading were
  tried on Wan alone.

One order only: a GGUF file is loaded before attaching, and inductor's mode and compiled caches were set up before it.

Of the attention backends of diffusers 0.42 these run on a CPU: `native`, `_native_flash`, `_native_math`, `flex`. Two
have no kernel there, `_native_cudnn` and `_native_efficient`. The others want packages for other machines: `flash`,
`sage`, `xformers`, `aiter`, all `_hub` ones, `_native_npu`, `_native_xla`. The gain is on the keys before any of them.

diffusers loads bitsandbytes models on a GPU only ("No GPU found. A GPU is needed for quantization."). Here its layers
were put into the transformer by hand; they compute on a CPU, too. Load a LoRA before `enable_layerwise_casting`: after
it, peft computes in fp8, which a CPU cannot, attached or not.

## What comes after attaching

A gain stays with its module: what is loaded into it (a Control-LoRA's norms), cast, quantised, offloaded or compiled
afterwards carries it on. A module that is put in its place does not. That is an error at the start of the next run,
which says to detach and attach again: a LoRA on projections where no norm follows them (Allegro, OmniGen), or norms
trained in full by peft's `modules_to_save`. A transformer that is put into the pipeline after attaching carries no
gain: a warning says so when it runs, through a door as well; `print(attachment)`, the next `attach` and detaching say
it, too. For that the pipeline's class is exchanged for one of the same name until detaching; one whose objects have
`__slots__` is not watched in runs. A transformer that was let go after a run (`pipe.transformer = None`) is no other.

Hooks of accelerate and diffusers come and go in any order (sequential, model and group offloading, layerwise casting,
`pipe.remove_all_hooks()`, LoRAs): the gain stays inside them, and detaching leaves classes and attributes as on a model
that was never attached. Around a forward that others have put on a norm, from which no way to the class's own is
known, the gain lies outermost; it is put back at the start of the next run if they took it away.

Copies (`copy.deepcopy`, `copy.copy`), pickles and `torch.save` of an attached model are of the plain model, without the
attachment and the pipeline. `torch.export` of an attached model is an error that says to detach. The model holds what
is attached to it: an attachment that was detached, or whose pipeline was deleted, keeps none alive and still prints
what it did.

torch.compile makes every graph in the first step: none is added at an edge of the window, in either order, by region or
whole. A cache breaks graphs by itself and may need some for its own first step after an edge; offloading breaks them,
too. On a CPU `mode="reduce-overhead"` is inductor without CUDA graphs.
"""

CACHES_NOTE = """
## Caches at a window's edge

Where the gain begins or ends to act, alignvid makes the cache forget what it kept, so that this forward is computed
whole: nothing computed with a gain is used without one, and nothing without one inside the window. Elsewhere the cache
skips as before. TaylorSeer counts its warm-up steps again from there; PAB and FasterCache count their intervals from
there. The pipelines of FramePack and Flux Kontext name no cache context, without which FirstBlockCache and TaylorSeer
of diffusers do not run: call them within `pipe.transformer.cache_context("run")`.

cache-dit 1.5.3 and para-attn 0.3.38 are recognised by what they leave on the transformer and in their contexts; nothing
of them is patched, and what is changed in a context ends with the run. cache-dit keeps the two passes apart by its own
count, and so does alignvid: with `branch="cond"` the other pass skips as before. It refuses FramePack's transformer.
para-attn runs with diffusers 0.42.1 on Wan and CogVideoX; its adapters of Flux and HunyuanVideo raise errors of their
own. Its rows were run by `make test-para-attn`, which installs it apart.

A model with a cache of its own forgets if its family says how (`forget`). All of these caches keep what they compute on
the transformer, for whichever thread calls it: threads that take turns on one cached transformer may be given each
other's residuals, attached or not, but never one from with a gain to without, or back.
"""

GUIDERS_NOTE = """## Guiders and modular pipelines

`alignvid.attach(modular_pipeline)` is the same as for a normal one. With `branch="cond"` the gain acts in every pass
that the guider calls conditional ("pred_cond", "pred_cond_skip", "pred_cond_seg"), with `"uncond"` in "pred_uncond"
alone. The normal pipelines of HunyuanVideo 1.5 take guiders too, and were run with those of the table that diffusers
0.42.1 can run there. Empty cells are guiders that diffusers 0.42.1 fails with before alignvid comes in:
PerturbedAttention on Wan and HunyuanVideo 1.5, SkipLayer and Auto on HunyuanVideo 1.5 ("Model class … not registered"),
SkipLayer and Auto on Qwen-Image (a size of text and picture does not match), MagnitudeAware on latents of videos ("dim
must be a 2-tuple"), ZeroStar on Qwen-Image (its first steps are NaN). Kontext's modular pipeline has no guider.
FrequencyDecoupledGuidance needs kornia and was not tried. SmoothedEnergyGuidance of that version never blurs: its pass
is a second plain one.
"""

PARALLEL_NOTE = """## Context parallelism

`transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))` gives each process a part of every
sequence. A gain on all the keys of a norm is right on any part, before or after attaching; Wan's text and image keys
are not split at all. What needs to know which tokens a process holds is refused, at attach or at the next forward: a
stream that shares its norm with others (all of Flux's single-stream blocks, the reference pictures of Kontext and
Qwen-Edit, the first frame of Wan 2.2 TI2V-5B), every modulation but the scalar one, and `observe`. Tensor parallelism
was not tried.

diffusers 0.42.1 itself does not run it on a CPU: `enable_parallelism` fails with "ZeroDivisionError: integer modulo by
zero" at `rank % torch.accelerator.device_count()`. The tests put the number 2 in there, and nothing else. Ring
attention then fails with "ValueError: Native attention does not support return_lse=True", so it was not tried.
"""

SHARING_NOTE = """## Two pipelines with one transformer

An attachment lies on the transformer, so it acts in every pipeline that has it (`from_pipe`, `Pipeline(**components)`),
and a second `attach` through any of them is refused with the first one's name; `detach` through any of them takes it
off. `from_pipe` of an attached pipeline shares its transformer.

The step is read from the scheduler of the pipeline that was attached to. Where the other one has a scheduler of
its own, the noise level that the transformer is given says which step it is, as for a bare transformer: exact for a
noise window. Attach to the pipeline that you run.
"""


def cli_page() -> str:
    parts = [CLI_HEAD, _section("alignvid", cli)]
    parts += [_section(name, command) for name, command in _commands("alignvid", cli)]
    return "\n".join(parts)


def built_in_table() -> list[PipelineFacts]:
    """Every pipeline of diffusers that is described."""
    return model_table(family for family in families().values() if family.pipelines)


def models_page() -> str:
    table = built_in_table()
    claims = ["| column | what passed |", "|---|---|", *(f"| {claim} | {words} |" for claim, words in CLAIMS.items())]
    pipelines = sum("runs" in facts.exercised for facts in table)
    head = MODELS_HEAD.format(
        pipelines=pipelines, families=len({facts.family for facts in table}), claims="\n".join(claims)
    )
    return "\n".join([head, *_rows(table), "", *_refusals(table)])


def compatibility_page() -> str:
    entries = recorded_combinations()
    columns = ("together with", "compared with; tolerance", *(entry["pipeline"] for entry in entries))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for combination, words in COMBINATIONS.items():
        ticks = ["yes" if combination in entry["exercised"] else "" for entry in entries]
        lines.append(f"| {' | '.join((combination, words, *ticks))} |")
    notes = (REASONS, CACHES_NOTE, GUIDERS_NOTE, PARALLEL_NOTE, SHARING_NOTE)
    return "\n".join([COMPATIBILITY_HEAD, *lines, *notes, *contract_lines(), ""])


def _rows(table: list[PipelineFacts]) -> list[str]:
    columns = ("family", "pipeline", "targets", "presets", *CLAIMS)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for facts in table:
        targets = ", ".join(f"`{target}`" for target in facts.targets)
        names = ", ".join([*facts.presets, presets.GENERIC])
        ticks = ["yes" if claim in facts.exercised else "" for claim in CLAIMS]
        lines.append(f"| {' | '.join((facts.family, facts.pipeline, targets, names, *ticks))} |")
    return lines


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


PAGES = {
    "api.md": api_page,
    **{f"api/{room}.md": partial(room_page, room) for room in ROOMS},
    "cli.md": cli_page,
    "compatibility.md": compatibility_page,
    "models.md": models_page,
    "scripts.md": lambda: scripts_page(built_in_table()),
    "support.md": lambda: support_page(built_in_table()),
}


def main() -> None:
    for file, page in PAGES.items():
        path, text = DOCS / file, page()
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{file} is stale; run `make docs` and commit it.")


if __name__ == "__main__":
    main()
