"""The loop on the miniature: make clips, replay policies on them, write docs/following.md's tables.

    python docs/following.py run FOLDER [--half claim] [--scenes 96] [--seeds 3] [--sets plain,preset,guided]    resumes
    python docs/following.py look FOLDER        previews of clips that are there, judged; resumes
    python docs/following.py page FOLDER [--development FOLDER]    tables from the records, rungs and previews too

`following_clips` makes and judges clips, `following_policies` replays policies on them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignvid.bench.scoring.statistics import Estimate, mean, paired
from following_clips import PLAN, PREVIEWED, Table, look, previews, run
from following_policies import (
    ARMS,
    DRAWS,
    LADDERS,
    LOOKED,
    MORE_ATTEMPTS,
    WRONG,
    Ending,
    Policy,
    Records,
    always,
    endings,
    known,
)

PAGE = Path(__file__).parent / "following.md"
MARK = "<!-- written by docs/following.py from here on -->"


def rate(found: Sequence[Sequence[Ending]], what: Callable[[Ending], float]) -> np.ndarray:
    return np.array([np.mean([what(one) for one in own]) for own in found])


def row(name: str, found: Sequence[Sequence[Ending]], against: Sequence[Sequence[Ending]] | None) -> str:
    both = rate(found, lambda one: one.clip.both)
    forwards = rate(found, lambda one: one.forwards)
    ends = rate(found, lambda one: one.says_followed)
    false_ends = rate(found, lambda one: one.says_followed and not one.clip.both)
    cells = [
        percent(mean(rate(found, lambda one: one.clip.shown), (0.0, 1.0))),
        percent(mean(rate(found, lambda one: one.clip.untouched), (0.0, 1.0))),
        percent(mean(both, (0.0, 1.0))),
        f"{forwards[0]:.1f}" if np.ptp(forwards) == 0 else plain(mean(forwards, None)),
        plain(ratio(forwards, both)),
        percent(ratio(false_ends, ends)),
        percent(mean(rate(found, lambda one: one.clip.is_right), (0.0, 1.0))),
    ]
    return f"| {name} | {' | '.join(cells)} | {'' if against is None else _change(against, both)} |"


def _change(against: Sequence[Sequence[Ending]], both: np.ndarray) -> str:
    compared = paired(rate(against, lambda one: one.clip.both), both, np.ones(len(both)))
    return f"{compared.wins} / {compared.losses}, p {compared.p:.2g}" if compared.wins + compared.losses else "="


HEADS = (
    "| | shown, % | untouched, % | both, % | forwards a scene | forwards a clip right in both | false ends, % | "
    "by the asked judge, % |",
    "|---|---|---|---|---|---|---|---|",
)


def tables(policies: Mapping[str, Policy], records: Records, cases: Mapping[str, Sequence[int]], base: str) -> str:
    against = endings(policies[base], records, cases)
    lines = [HEADS[0] + f" both, scenes more / fewer than {base.strip('*')} |", HEADS[1] + "---|"]
    for name, policy in policies.items():
        lines.append(row(name, endings(policy, records, cases), None if name == base else against))
    return "\n".join(lines)


def ratio(sums: np.ndarray, weights: np.ndarray) -> Estimate:
    """The ratio of two sums over scenes, some of whose weights are 0, with its percentile bootstrap interval."""
    if weights.sum() == 0:
        return Estimate(None, None, None, len(sums))
    drawn = np.random.default_rng(0).integers(0, len(sums), (10_000, len(sums)))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.nanpercentile(found, [2.5, 97.5])  # draws without any of them say nothing
    return Estimate(float(sums.sum() / weights.sum()), float(low), float(high), len(sums))


def percent(found: Estimate) -> str:
    value, low, high = (np.nan if one is None else 100 * one for one in (found.value, found.low, found.high))
    return f"{value:.1f} ({low:.0f} to {high:.0f})"


def plain(found: Estimate) -> str:
    value, low, high = (np.nan if one is None else one for one in (found.value, found.low, found.high))
    return f"{value:.1f}" if low == high else f"{value:.1f} ({low:.1f} to {high:.1f})"


def judged_twice(table: Table) -> str:
    """The asked judge against the one that scores, clip by clip."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for clip in table.values():
        for what, said, truth in (("edit", clip.asked_edit, clip.shown), ("rest", clip.asked_rest, clip.untouched)):
            counts[what][2 * truth + said] += 1
    lines = ["| question | clips | yes where the scoring judge says no | no where it says yes |", "|---|---|---|---|"]
    for what, (no_no, no_yes, yes_no, yes_yes) in counts.items():
        no, yes = no_no + no_yes, yes_no + yes_yes
        lines.append(f"| {what} | {no + yes} | {no_yes} of {no} | {yes_no} of {yes} |")
    return "\n".join(lines)


def _of(table: Table, cases: Mapping[str, Sequence[int]]) -> Table:
    return {key: clip for key, clip in table.items() if clip.seed in cases.get(clip.scene, ())}


def looked(folder: Path) -> str:
    """What an early stop comes to, and what the asked judge says of previews against the finished clips."""
    plan, records, cases = opened(folder, LOOKED.values())
    records = Records(records.clips, {key: said for key, said in records.previews.items() if key[1] in cases})
    return f"{_counted(plan, cases)}.\n\n{tables(LOOKED, records, cases, 'preset ×3')}\n\n{_said_of_previews(records)}"


def _said_of_previews(records: Records) -> str:
    lines = ["| steps | clips | finished: yes, preview: no | finished: no, preview: yes |", "|---|---|---|---|"]
    for step in PREVIEWED:
        pairs = [(records.clips[key].asked_edit, said[step][0]) for key, said in records.previews.items()]
        yes, no = (sum(end is value for end, _ in pairs) for value in (True, False))
        lost, kept = (pairs.count(pair) for pair in ((True, False), (False, True)))
        lines.append(f"| {step} | {len(pairs)} | {lost} of {yes} | {kept} of {no} |")
    return "\n".join(lines)


def page(folder: Path, development: Path | None) -> None:
    """Write the tables behind the mark; those of rungs from the scenes that chose, too."""
    plan, records, cases = opened(folder, ARMS.values())
    arms = ARMS | {name: policy for name, policy in MORE_ATTEMPTS.items() if _is_known(policy, records, cases)}
    parts = [
        f"### Policies\n\n{_counted(plan, cases)}.\n\n{tables(arms, records, cases, 'preset once')}",
        f"### Judges made wrong on purpose\n\nThe loop at the preset, budget 3, on the same clips; errors drawn "
        f"{DRAWS} times. Each answer, about the edit and about the rest, is turned with this probability.\n\n"
        + tables({"as it is": Policy(always("preset"), 3), **WRONG}, records, cases, "as it is"),
        f"### The judge that is asked\n\nAll clips of these scenes.\n\n{judged_twice(_of(records.clips, cases))}",
    ]
    both = [one for one in (development, folder) if one is not None]
    parts += [f"### Rungs\n\n{rungs(one)}" for one in both]
    parts += [f"### An early stop\n\n{looked(one)}" for one in both if previews(one)]
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def opened(folder: Path, policies: Iterable[Policy]) -> tuple[dict[str, Any], Records, dict[str, list[int]]]:
    """Plan, records, and the scenes that are there with all seeds."""
    plan, records = json.loads((folder / PLAN).read_text()), Records.of(folder)
    return plan, records, {scene: own for scene, own in known(records, policies).items() if len(own) == plan["seeds"]}


def rungs(folder: Path) -> str:
    """Ladders of other sets, as far as their clips are there."""
    plan, records, cases = opened(folder, [LADDERS["preset ×3"]])
    with_rungs = {scene for name, scene, *_ in records.clips if name == "guided first"}
    cases = {scene: seeds for scene, seeds in cases.items() if scene in with_rungs}
    there = {name: policy for name, policy in LADDERS.items() if _is_known(policy, records, cases)}
    return f"{_counted(plan, cases)}.\n\n{tables(there, records, cases, 'preset ×3')}"


def _is_known(policy: Policy, records: Records, cases: Mapping[str, Sequence[int]]) -> bool:
    found = known(records, [policy])
    return all(set(seeds) <= set(found.get(scene, ())) for scene, seeds in cases.items())


def _counted(plan: Mapping[str, Any], cases: Mapping[str, Sequence[int]]) -> str:
    seeds = f"{plan['seeds']} noise seeds" if plan["seeds"] > 1 else "one noise seed"
    return (
        f"{len(cases)} scenes of the {plan['half']} half, {seeds} of each attempt; 95 % interval over scenes; weights "
        f"{plan['weights'][:12]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "look", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("development", "claim"), default="claim")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default="preset,plain,guided")
    parser.add_argument("--attempts", type=int, default=3, help="at most so many of each set")
    parser.add_argument("--development", type=Path, help="of page: folder of the scenes that chose rungs")
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, given.half, given.scenes, given.seeds, given.sets.split(","), given.attempts)
    elif given.command == "look":
        look(given.folder)
    else:
        page(given.folder, given.development)


if __name__ == "__main__":
    main()
