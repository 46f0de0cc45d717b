"""From the records of held-out clips to the tables of docs/miniature.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignvid.files import sha256_of_file
from alignvid.miniature import weights_folder
from alignvid.miniature.evaluate import DEFAULT_STEPS
from alignvid.miniature.scenes import EDIT_KINDS
from alignvid.miniature.training.statistics import Interval, bootstrap_mean, wilson
from held_out import (
    BASELINE,
    DISTILLED,
    DISTILLED_PRESET,
    FEW,
    GUIDED,
    PAPER,
    PRESET,
    SCENES,
    SEEDS,
    Row,
    rows,
    verdicts,
)
from held_out_sheets import GROUPS

HERE = Path(__file__).parent
PAGE, SEEN = HERE / "miniature.md", HERE / "by_eye.json"
BEGIN, END = "<!-- written by docs/held_out.py -->", "<!-- end of what docs/held_out.py writes -->"
CLAIMS: Mapping[str, Callable[[Row], bool]] = {
    "edit shown": lambda row: row.shown,
    "rest untouched": lambda row: row.untouched,
    "both": lambda row: row.shown and row.untouched,
}
IN_FOUR = (f"{BASELINE}, 4 steps", f"{PRESET}, 4 steps", GUIDED, DISTILLED, DISTILLED_PRESET)
FORWARDS = (4, 4, 8, 4, 4)
Arms = Mapping[str, Mapping[tuple[int, int], Row]]


def write(folder: Path) -> None:
    """Write the tables between the page's marks."""
    arms = rows(folder)
    parts = [
        f"Weights: transformer {_weights()}. Held-out scenes, none of which chose anything, {SEEDS} noise seeds, "
        "guidance 1, 10 steps unless said otherwise; the same scenes and noise for all. In brackets 95 %, by a "
        "bootstrap over scenes; differences are paired.",
        *_compared(arms),
    ]
    if few := all_of(arms, [f"{arm}, {count} steps" for arm in (BASELINE, PRESET) for count in FEW]):
        parts.append(f"### Fewer steps\n\nThe first {few} of these scenes.\n\n{steps(arms, few)}")
    if few := all_of(arms, IN_FOUR):
        parts.append(f"### Distilled to four steps\n\nThe first {few} of these scenes.\n\n{in_four(arms, few)}")
    if SEEN.exists():
        parts.append(by_eye())
    parts.append(agreement(verdicts(folder)))
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{after}", encoding="utf-8")


def _compared(arms: Arms) -> list[str]:
    """The three arms on all scenes; the paper's schedule on its own where it has fewer."""
    if all_of(arms, (BASELINE, PAPER)) == all_of(arms, (BASELINE, PRESET)):
        return [_counted(arms, (BASELINE, PRESET, PAPER))]
    fewer = _counted(arms, (BASELINE, PRESET, PAPER))
    return [_counted(arms, (BASELINE, PRESET)), "The paper's schedule was made of fewer:", fewer]


def all_of(arms: Arms, names: Sequence[str]) -> int:
    """How many scenes, from the first on, have every arm's clip with every noise."""
    keys = [set(arms.get(name, {})) for name in names]
    whole = (all((seed, scene) in of_arm for of_arm in keys for seed in range(SEEDS)) for scene in range(SCENES))
    return sum(1 for _ in takewhile(bool, whole))


def _counted(arms: Arms, names: Sequence[str]) -> str:
    scenes = all_of(arms, names)
    return f"### {scenes} scenes\n\n{comparison(arms, names[1:], scenes)}\n\n{kinds(arms, names, scenes)}"


def _weights() -> str:
    file = weights_folder() / "transformer" / "diffusion_pytorch_model.safetensors"
    return f"`{sha256_of_file(file)[:12]}`"


def table(arms: Arms, arm: str, scenes: int, claim: str) -> NDArray[np.float64]:
    """One row per scene, one column per noise seed. Raises: KeyError if a clip is missing."""
    held = CLAIMS[claim]
    return np.array([[held(arms[arm][seed, scene]) for seed in range(SEEDS)] for scene in range(scenes)], float)


def comparison(arms: Arms, others: Sequence[str], scenes: int) -> str:
    """Each claim's rate in the baseline and in other arms, with the difference."""
    lines = [f"| | {' | '.join(CLAIMS)} |", f"|---|{'---|' * len(CLAIMS)}"]
    tables = {arm: [table(arms, arm, scenes, claim) for claim in CLAIMS] for arm in (BASELINE, *others)}
    for arm, found in tables.items():
        lines.append(f"| {arm} | {' | '.join(_percent(bootstrap_mean(one, seed=0)) for one in found)} |")
        if arm == BASELINE:
            continue
        gains = [
            _signed(bootstrap_mean(one - plain, seed=0)) for one, plain in zip(found, tables[BASELINE], strict=True)
        ]
        lines.append(f"| … minus the baseline | {' | '.join(gains)} |")
    return "\n".join(lines)


def kinds(arms: Arms, names: Sequence[str], scenes: int) -> str:
    """Edits shown by kind of edit, and what an arm gained and lost of the pairs."""
    used = {name: [row for row in arms[name].values() if row.scene < scenes] for name in names}
    counts = Counter(row.edit_kind for row in used[BASELINE])
    heads = [f"{kind} (n = {counts[kind]})" for kind in EDIT_KINDS]
    lines = [f"| edit shown, % | {' | '.join(heads)} | pairs gained, lost |", f"|---|{'---|' * (len(heads) + 1)}"]
    for name, found in used.items():
        cells = [f"{100 * np.mean([row.shown for row in found if row.edit_kind == kind]):.0f}" for kind in EDIT_KINDS]
        pairs = [(arms[BASELINE][row.key].shown, row.shown) for row in found]
        change = "" if name == BASELINE else f"{pairs.count((False, True))}, {pairs.count((True, False))}"
        lines.append(f"| {name} | {' | '.join(cells)} | {change} |")
    return "\n".join(lines)


def steps(arms: Arms, scenes: int) -> str:
    """Rates at several numbers of steps."""
    heads = " | ".join(CLAIMS)
    lines = [f"| steps | arm | {heads} | both, preset minus baseline |", f"|---|---|{'---|' * (len(CLAIMS) + 1)}"]
    for count in (*FEW, DEFAULT_STEPS):
        names = [arm if count == DEFAULT_STEPS else f"{arm}, {count} steps" for arm in (BASELINE, PRESET)]
        found = [[table(arms, name, scenes, claim) for claim in CLAIMS] for name in names]
        for arm, tables in zip((BASELINE, PRESET), found, strict=True):
            gain = _signed(bootstrap_mean(found[1][-1] - found[0][-1], seed=0)) if arm == PRESET else ""
            cells = " | ".join(_percent(bootstrap_mean(one, seed=0)) for one in tables)
            lines.append(f"| {count} | {arm} | {cells} | {gain} |")
    return "\n".join(lines)


def in_four(arms: Arms, scenes: int) -> str:
    """Rates with and without the LoRA that was distilled, and differences from the baseline in four steps."""
    first = table(arms, IN_FOUR[0], scenes, "both")
    lines = [
        f"| arm | forwards | {' | '.join(CLAIMS)} | both, minus {IN_FOUR[0]} |",
        f"|---|---|{'---|' * (len(CLAIMS) + 1)}",
    ]
    for arm, forwards in zip(IN_FOUR, FORWARDS, strict=True):
        cells = [_percent(bootstrap_mean(table(arms, arm, scenes, claim), seed=0)) for claim in CLAIMS]
        gain = "" if arm == IN_FOUR[0] else _signed(bootstrap_mean(table(arms, arm, scenes, "both") - first, seed=0))
        lines.append(f"| {arm} | {forwards} | {' | '.join(cells)} | {gain} |")
    more = table(arms, DISTILLED_PRESET, scenes, "both") - table(arms, DISTILLED, scenes, "both")
    return "\n".join([*lines, "", f"Its preset adds {_signed(bootstrap_mean(more, seed=0))} points of both to it."])


def by_eye() -> str:
    """What was seen on the sheets."""
    seen: dict[str, Any] = json.loads(SEEN.read_text(encoding="utf-8"))
    lines = [
        f"### By eye\n\n{seen['how']}\n",
        "| clips that the judge | n | right | wrong | arguable | right, % | … if the arguable count as wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in GROUPS:
        marks = seen["groups"][group.name]
        count, wrong, arguable = marks["n"], len(marks["wrong"]), len(marks["arguable"])
        kind = [_percent(wilson([True] * (count - misses) + [False] * misses)) for misses in (wrong, wrong + arguable)]
        words = f"{'accepted' if group.is_accepted else 'refused'}, {group.arm}"
        lines.append(f"| {words} | {count} | {count - wrong - arguable} | {wrong} | {arguable} | {' | '.join(kind)} |")
    sheets = ", ".join(_sheet_links(group.name) for group in GROUPS)
    return "\n".join([*lines, "", f"The sheets: {sheets}."])


def _sheet_links(name: str) -> str:
    files = sorted((HERE / "images").glob(f"eye-{name}-*.jpg"))
    links = " ".join(f"[{place}](images/{file.name})" for place, file in enumerate(files, start=1))
    return f"{name.replace('-', ', ')} {links}"


def agreement(found: Sequence[Row]) -> str:
    """How often the judge that reads picture and prompt says what the one that knows the scene says."""
    read = [row for row in found if row.asked_shown is not None]
    lines = [
        "### Two judges\n",
        f"{len(found)} generated clips of held-out scenes ({_arms_of(found)}), each judged by the rule that knows the "
        "scene and by the one that reads reference picture and prompt. Clips of one scene are not independent.\n",
        "| verdict on | both yes | both no | knows yes, reads no | knows no, reads yes | not read | the same, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, known, asked in (
        ("the edit", lambda row: row.shown, lambda row: row.asked_shown),
        ("the rest", lambda row: row.untouched, lambda row: row.asked_untouched),
    ):
        pairs = Counter((known(row), asked(row)) for row in found)
        same = wilson([known(row) == asked(row) for row in found])
        cells = [pairs[pair] for pair in ((True, True), (False, False), (True, False), (False, True))]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {len(found) - len(read)} | {_percent(same)} |")
    same = wilson([row.agrees for row in found])
    lines.append(f"| both | | | | | {len(found) - len(read)} | {_percent(same)} |")
    causes = Counter(row.cause.split(":")[0] for row in found if not row.agrees)
    said = ", ".join(f"{name} {count}" for name, count in causes.most_common()) or "none"
    return "\n".join([*lines, "", f"What the second one read otherwise where they differ: {said}."])


def _arms_of(found: Sequence[Row]) -> str:
    return ", ".join(f"{arm} {count}" for arm, count in Counter(row.arm for row in found).items())


def _percent(found: Interval) -> str:
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _signed(found: Interval) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]".replace("-", "−")
