"""A cache that is not known shows itself at an edge: blocks that this pass ran before are left out there."""

from __future__ import annotations

from collections.abc import Hashable


class SkipWatch:
    """Notices blocks that are skipped where the gain begins or ends to act.

    There every known cache has forgotten, so that all attentions run. A pass that always leaves some out, as that of
    skip-layer guidance, is compared with itself; and what a pass runs in its first forward cannot come from a cache.
    """

    def __init__(self) -> None:
        """Nothing has run yet."""
        self._most_by_pass: dict[Hashable, int] = {}
        self._warned_run: object = None

    def see(self, run: object, pass_name: Hashable, planned: int, ran: int, *, is_edge: bool) -> str | None:
        """What is to be warned of after a forward, if anything; once per run.

        `run`: anything that differs from run to run, such as a count of schedules, and is not None. `planned`, `ran`:
        executions of key norms that the attachment has in one forward, and how many came, scaled or not. `is_edge`: as
        `EdgeWatch.see` says.
        """
        most = self._most_by_pass.get(pass_name, 0)
        self._most_by_pass[pass_name] = max(most, ran)
        if not is_edge or ran >= min(most, planned) or run == self._warned_run:
            return None
        self._warned_run = run
        return (
            f"Where the gain begins or ends to act, {ran} of {planned} key norms ran: something leaves blocks out, "
            "such as an unknown cache. What it kept was computed with another gain, so that this step mixes "
            "both. Turn it off, give the family a `forget` for it, or let the gain act in all steps and passes."
        )
