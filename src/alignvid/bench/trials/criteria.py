"""What counts as "it helps on this model", written down before anyone has run it. docs/trial.md says it in words."""

from __future__ import annotations

from typing import Any

VERSION = 1
"""Raised when anything below, or the draw of scenes, is changed: records of two versions are never merged."""
ALPHA = 0.05
"""Of the primary arm alone, and of all others together (Holm)."""
FEWEST_SCENES = 10
"""With answers of people, for a verdict. Of 10 the smallest two-sided p is 2/1,024; of 5 it is 2/32, above ALPHA."""
MARGIN = 1 / 3
"""How much may be lost apart from the prompt: with 95 % confidence, one-sided, fewer than a third of the scenes net."""
PRIMARY = ("released", "generic")
"""The first of these that the model has is the primary arm; the others are secondary."""
GUIDANCE = 1.5
"""Factor on the guidance of the arm `guidance`."""
FOLLOWS = "Which of the two follows the prompt better?"
APART = "Apart from the prompt: which is the better video?"
"""What people are asked about each pair: picture quality, steadiness, what should have stayed the same."""


def criteria() -> dict[str, Any]:
    """All of it as plain data, for the plan's digest."""
    return {
        "version": VERSION,
        "alpha": ALPHA,
        "fewest_scenes": FEWEST_SCENES,
        "margin": MARGIN,
        "primary": list(PRIMARY),
        "guidance": GUIDANCE,
        "questions": [FOLLOWS, APART],
    }
