"""How often a trial of so many scenes shows a difference: the table of docs/trial.md."""

from __future__ import annotations

import numpy as np

from alignvid.bench.trials.criteria import ALPHA

TRIALS, FLIPS = 2000, 4000
CHANCES = ((0.3, 0.4, 0.3), (0.4, 0.4, 0.2), (0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.8, 0.15, 0.05))
SCENES = (12, 24, 48)


def power(chances: tuple[float, float, float], scenes: int, rng: np.random.Generator) -> float:
    """Share of trials with a two-sided sign-flip p below ALPHA; p from the binomial draw of signs, FLIPS times."""
    values = rng.choice([1.0, 0.0, -1.0], size=(TRIALS, scenes), p=chances)
    signs = rng.choice([1.0, -1.0], size=(FLIPS, scenes))
    sums, flipped = np.abs(values.sum(1)), np.abs(signs @ values.T)
    p = (1 + (flipped >= sums - 1e-9).sum(0)) / (1 + FLIPS)
    return float((p < ALPHA).mean())


def main() -> None:
    rng = np.random.default_rng(0)
    for chances in CHANCES:
        cells = [f"{100 * power(chances, scenes, rng):.0f} %" for scenes in SCENES]
        print(f"| {', '.join(f'{100 * chance:.0f} %' for chance in chances)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
