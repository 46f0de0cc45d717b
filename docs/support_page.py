"""docs/support.md: what may be relied on, which pipelines are how well tested, and how names go away."""

from __future__ import annotations

from alignvid.models.evidence import PipelineFacts

COMPARED = "explicit softmax"
HEAD = """# What can I rely on?

Written by `make docs` from what the tests recorded.

## Tiers

{total} pipeline classes of diffusers are known. None was run on released weights here.

| tier | what was done | classes |
|---|---|---|
| 1, compared | run from end to end; each target equals a softmax with the gain written out, within 1e-6 | {compared} |
| 2, run | run from end to end: neutral gain bit-equal, each target changes the output | {run} |
| 3, described | described from its code, and not run by this repository's tests | below |

Tier 1: a release that breaks one does not go out, and an error in it is mended before others. Tier 2: the same, but a
wrong order of streams could hide in what is particular to that pipeline. Tier 3: it attaches, or says why not; say what
you see. Of tier 3 are what [hosts](hosts.md#which-ones-are-described) and `comfyui/README.md` call described or read;
plugins of other packages are their authors'. [The list](models.md) says of each class what passed.
"""

TAIL = """
## How names go away

Until version 1.0 anything may change in a minor version (0.1 to 0.2); what changes is in CHANGELOG.md. From 0.2 on:

- **Public** is what [the public names](api.md) lists, each command and option, each field of [the files](files.md), and
  the names of presets.
- A public name that goes stays for one minor version more, with a `DeprecationWarning` that names what replaces it.
- A preset's reading keeps its numbers; a better one is a new reading (`framepack:released` beside `framepack:paper`).
  Which one is the default is said in CHANGELOG.md. Records hold whole recipes: a run can be repeated in any case.
- Files carry a `schema_version`. One that this version cannot read is refused with the version that it has.
- Lower bounds of diffusers, transformers and torch rise in minor versions alone, to versions at least half a year old.
- A model class that diffusers drops goes with the diffusers that dropped it.

Once a week the public CI runs checks that are not in `.ci/run` (a quantiser, another cache, native repositories,
the oldest versions) and the families against diffusers' main branch, so that a change there is known before it is
released (`.github/workflows/ci.yml`).

## How a trial on real weights comes in

Nothing here was run on released weights. If you have run some, this is how what you saw becomes something that others
can rely on:

1. Run [a trial](trial.md): `alignvid trial run` writes its plan down before the first clip, `alignvid trial record`
   makes the record of people's answers to pairs without names. What counts as "it helps" is fixed there.
2. Keep every clip, whatever it shows.
3. Open an issue with `trial-record.json` (no picture, no prompt, no name), whatever its verdict.
4. `alignvid trial merge` puts it beside the others; a record of another plan is refused.
5. It goes into [the lab log](lab-log.md) with its date and your name if you like, whatever its sign. A preset made from
   it has its own `provenance` line: who found it, on what, how many times.
"""


def support_page(table: list[PipelineFacts]) -> str:
    """docs/support.md."""
    compared = sorted(facts.pipeline for facts in table if COMPARED in facts.exercised)
    run = sorted(facts.pipeline for facts in table if "runs" in facts.exercised and COMPARED not in facts.exercised)
    head = HEAD.format(total=len(table), compared=len(compared), run=len(run))
    lists = [f"**Tier 1**: {', '.join(compared)}.", "", f"**Tier 2**: {', '.join(run)}."]
    return "\n".join([head, *lists, TAIL])
