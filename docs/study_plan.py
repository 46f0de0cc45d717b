"""What the study on the miniature runs, and which of the paper's trends it looks for."""

from __future__ import annotations

from collections.abc import Mapping

METRICS = ("edit_shown", "rest_untouched", "edit_shown_rest_untouched")
BASELINE, ALIGNVID = "baseline", "alignvid"

RELEASED = "released: preset=wan2.1-i2v-14b:released blocks=all"
PAPER = "paper: preset=wan2.1-i2v-14b:paper blocks=all"
ENERGY = "energy: kind=energy gamma=1.82 streams=text blocks=all steps-window=all"
GUIDANCE = ("guidance 2: guidance=2", "guidance 4: guidance=4", "gamma 1.35 guidance 2: gamma=1.35 guidance=2")
OTHERS = (
    "conflict-aware: kind=conflict-aware blocks=all steps-window=all",
    "key blur: kind=key-blur blocks=all steps-window=all",
    "low-pass: kind=low-pass steps-window=0.0-0.3",
    "input blur 1: blur=1",
)
STILL = "still"
RIVALS = (
    *("dymos: kind=dymos", "dymos 1.2: kind=dymos penalty=1.2", "dymos 2.4: kind=dymos penalty=2.4"),
    *("down-up 0.6: kind=down-up ratio=0.6", "down-up: kind=down-up", "down-up 0.2: kind=down-up ratio=0.2"),
    *("painter: kind=painter", "painter 1.5: kind=painter amount=1.5", "painter 2: kind=painter amount=2"),
    *("nag 4: kind=nag scale=4", "nag: kind=nag", "nag 22: kind=nag scale=22"),
    *("alg 2: kind=alg guidance=2", "alg 4: kind=alg guidance=4"),
    "guidance 4 in 3 steps: guidance=4 cfg_high=3",
)
"""Those that Wan has the quantities for, in the strengths of their sources and beyond; without guidance, as all but the
last three here, ALG is `down-up`."""
COMBINED = tuple(f"gamma 1.35 {kind}: gamma=1.35 & kind={kind}" for kind in ("dymos", "down-up", "painter", "nag"))
"""A gain with each of them, as one recipe."""
EARLY = "early: gamma=1.82 steps-window=0-0.3"
NEIGHBOURS = (
    *("early 3: gamma=3 steps-window=0-0.3", "input blur 2: blur=2"),
    "energy 2.5: kind=energy gamma=2.5 streams=text blocks=all steps-window=all",
    *("guidance 3: guidance=3", "gamma 1.35 guidance 1.5: gamma=1.35 guidance=1.5"),
)
"""Strengths that the development half named for the comparison at an equal untouched rate."""
DEVELOPMENT = (
    *(BASELINE, ALIGNVID, RELEASED, PAPER),
    *(f"gamma {gamma}: gamma={gamma}" for gamma in ("1.1", "1.35", "1.82", "2.5")),
    EARLY,
    "mid: gamma=1.82 steps-window=0.35-0.65",
    "late: gamma=1.82 steps-window=0.7-1.0",
    "first half: gamma=1.82 blocks=first-half",
    "last half: gamma=1.82 blocks=last-half",
    "foreground: gamma=1.82 blocks=1+5",
    "background: gamma=1.82 blocks=0+2+3+4",
    "image keys: gamma=1.82 streams=image",
    ENERGY,
    *OTHERS,
    *GUIDANCE,
    *NEIGHBOURS,
    *(STILL, *RIVALS, *COMBINED),
    "energy 3.5: kind=energy gamma=3.5 streams=text blocks=all steps-window=all",
    *("guidance 6: guidance=6", "gamma 1.2 guidance 2: gamma=1.2 guidance=2"),
)
CLAIM = (
    *(BASELINE, ALIGNVID, RELEASED, PAPER, ENERGY),
    *GUIDANCE,
    *OTHERS,
    EARLY,
    *NEIGHBOURS,
    *(STILL, *RIVALS, *COMBINED),
)
HALVES: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "development": (DEVELOPMENT, (0, 1, 2)),
    "claim": (CLAIM, (0, 1, 2)),
}

STRENGTHS: Mapping[str, tuple[str, ...]] = {
    "gain, early steps only": ("paper", "released", "early", "early 3"),
    "energy-based gain": ("energy", "energy 2.5", "energy 3.5"),
    "conflict-aware gain": ("conflict-aware",),
    "guidance": ("guidance 2", "guidance 3", "guidance 4", "guidance 6"),
    "gain and guidance": ("gamma 1.2 guidance 2", "gamma 1.35 guidance 1.5", "gamma 1.35 guidance 2"),
    "blur of the input": ("input blur 1", "input blur 2"),
    "blur of the image's keys": ("key blur",),
    "low-pass of the reference": ("low-pass",),
    "first frame's logits lowered (DyMoS)": ("dymos", "dymos 1.2", "dymos 2.4"),
    "reference scaled down and up": ("down-up 0.6", "down-up", "down-up 0.2"),
    "low-pass guidance (ALG)": ("alg 2", "alg 4"),
    "condition pushed from its first frame (Painter)": ("painter", "painter 1.5", "painter 2"),
    "negative text in attention (NAG)": ("nag 4", "nag", "nag 22"),
}
"""The other ways, each in the strengths that were tried on the development half, from weak to strong."""

Trend = tuple[str, str, str, str]
"""What the paper says, the variant that should be higher, the one that should be lower, and in which metric."""
TRENDS: tuple[Trend, ...] = (
    ("γ ↑ → fidelity ↑ (1.1 → 1.35)", "gamma 1.35", "gamma 1.1", METRICS[0]),
    ("γ ↑ → fidelity ↑ (1.35 → 1.82)", "gamma 1.82", "gamma 1.35", METRICS[0]),
    ("γ ↑ → fidelity ↑ (1.82 → 2.5)", "gamma 2.5", "gamma 1.82", METRICS[0]),
    ("γ ↑ → looks slowly ↓ (rest untouched, 1.35 → 1.82)", "gamma 1.35", "gamma 1.82", METRICS[1]),
    ("early > mid", "early", "mid", METRICS[0]),
    ("early > late", "early", "late", METRICS[0]),
    ("foreground > background blocks", "foreground", "background", METRICS[0]),
    ("foreground > last half", "foreground", "last half", METRICS[0]),
    ("first half > last half", "first half", "last half", METRICS[0]),
    ("scalar > energy in gain", "gamma 1.82", "energy", METRICS[0]),
    ("energy > scalar in looks (rest untouched)", "energy", "gamma 1.82", METRICS[1]),
    ("blur of the input raises fidelity", "input blur 2", BASELINE, METRICS[0]),
    ("blur of the input costs looks (rest untouched)", BASELINE, "input blur 2", METRICS[1]),
)
