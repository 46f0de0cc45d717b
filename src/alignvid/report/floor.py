"""What a score is worth beside a clip that stands still: the floor, and a warning.

Judges that look at pictures please themselves with still and damped clips, so that a variant may win by moving less.
`still`, the reference picture repeated, follows no prompt: what it gets, a judge or its questions give for nothing.
"""

from __future__ import annotations

from alignvid.bench.scoring.scorecard import Scorecard


def floor_sentences(card: Scorecard) -> list[str]:
    """What `still` got, and a warning where another variant got no more."""
    said = []
    for still in still_variants(card):
        floor = card.score(still).accuracy
        if floor.value is None:
            continue
        said.append(f"Floor: {still}, one picture repeated, gets {100 * floor.value:.1f} % of this judge.")
        scores = {name: card.score(name).accuracy.value for name in card.run.variants if name != still}
        if passed := [name for name, value in scores.items() if value is not None and value <= floor.value]:
            said.append(
                f"Warning: this judge passes {still}, in which nothing happens, as often as {', '.join(passed)} or "
                "more often: it rewards standing still, or its questions ask for nothing that must change. Audit "
                "it with alignvid bench audit FOLDER --exact."
            )
    return said


def still_variants(card: Scorecard) -> list[str]:
    """Names of the variants that are the reference picture repeated."""
    return [facts["name"] for facts in card.run.info.variants if facts["settings"].get("still")]
