"""What the study on the miniature runs, and which of the paper's trends it looks for."""

from __future__ import annotations

from collections.abc import Mapping

METRICS = ("edit_shown", "rest_untouched", "edit_shown_rest_untouched")
BASELINE, ALIGNVID = "baseline", "alignvid"

SCHEDULED = "scheduled: preset=miniature:paper"
EARLY = ("early: gamma=1.82 steps-window=0-0.3", "early 3: gamma=3 steps-window=0-0.3")
ENERGY = tuple(
    f"{name}: kind=energy gamma={gamma} streams=text blocks=all steps-window=all"
    for name, gamma in (("energy", 1.82), ("energy 2.5", 2.5))
)
GUIDANCE = (
    *("guidance 2: guidance=2", "guidance 4: guidance=4", "guidance 4 in 3 steps: guidance=4 cfg_high=3"),
    "gamma 1.35 guidance 2: gamma=1.35 guidance=2",
)
PILOT = (
    "conflict-aware: kind=conflict-aware blocks=all steps-window=all",
    "key blur: kind=key-blur blocks=all steps-window=all",
    "low-pass: kind=low-pass steps-window=0.0-0.3",
    "input blur 2: blur=2",
)
STILL = "still"
RIVALS = (
    *("dymos: kind=dymos", "dymos 2.4: kind=dymos penalty=2.4"),
    "down-up: kind=down-up",
    *("painter: kind=painter", "painter 2: kind=painter amount=2"),
    *("nag 4: kind=nag scale=4", "nag: kind=nag"),
    "alg 4: kind=alg guidance=4",
)
"""Those that Wan has the quantities for (GRAG, DCAG and a weight of the reference's keys need reference tokens in a
softmax with others), in the strength of their source and one beside it; without guidance, as all but the last here, ALG
is `down-up`."""
COMBINED = tuple(f"alignvid and {kind}: gamma=1.82 & kind={kind}" for kind in ("dymos", "down-up", "painter", "nag"))
"""The miniature's preset with each of them, as one recipe."""
WAYS = (BASELINE, ALIGNVID, *EARLY, *ENERGY, *GUIDANCE, *PILOT, STILL, *RIVALS, *COMBINED, SCHEDULED)
DEVELOPMENT = (
    *WAYS,
    *(f"gamma {gamma}: gamma={gamma}" for gamma in ("1.35", "2.5")),
    "mid: gamma=1.82 steps-window=0.35-0.65",
    "late: gamma=1.82 steps-window=0.7-1.0",
    "first half: gamma=1.82 blocks=first-half",
    "last half: gamma=1.82 blocks=last-half",
    "foreground: gamma=1.82 blocks=1+2+4+5",
    "background: gamma=1.82 blocks=0+3",
    "image keys: gamma=1.82 streams=image",
)
SEEDS = (0, 1, 2)
HALVES: Mapping[str, tuple[str, ...]] = {"development": DEVELOPMENT, "claim": WAYS}

STRENGTHS: Mapping[str, tuple[str, ...]] = {
    "gain, early steps only": ("early", "early 3"),
    "gain, early steps and calibrated blocks": ("scheduled",),
    "energy-based gain": ("energy", "energy 2.5"),
    "conflict-aware gain": ("conflict-aware",),
    "guidance": ("guidance 2", "guidance 4"),
    "guidance in the first 3 of 10 steps": ("guidance 4 in 3 steps",),
    "gain and guidance": ("gamma 1.35 guidance 2",),
    "blur of the input": ("input blur 2",),
    "blur of the image's keys": ("key blur",),
    "low-pass of the reference": ("low-pass",),
    "first frame's logits lowered (DyMoS)": ("dymos", "dymos 2.4"),
    "reference scaled down and up": ("down-up",),
    "low-pass guidance (ALG)": ("alg 4",),
    "condition pushed from its first frame (Painter)": ("painter", "painter 2"),
    "negative text in attention (NAG)": ("nag 4", "nag"),
}
"""The other ways, each in the strengths that are tried on the development half, from weak to strong."""
CURVES = (
    "gain, early steps only",
    "energy-based gain",
    "guidance",
    "first frame's logits lowered (DyMoS)",
    "negative text in attention (NAG)",
)
"""Those of them that the picture draws as curves."""

Trend = tuple[str, str, str, str]
"""What the paper says, the variant that should be higher, the one that should be lower, and in which metric."""
TRENDS: tuple[Trend, ...] = (
    ("γ ↑ → fidelity ↑ (1.35 → 1.82)", ALIGNVID, "gamma 1.35", METRICS[0]),
    ("γ ↑ → fidelity ↑ (1.82 → 2.5)", "gamma 2.5", ALIGNVID, METRICS[0]),
    ("γ ↑ → looks slowly ↓ (rest untouched, 1.35 → 1.82)", "gamma 1.35", ALIGNVID, METRICS[1]),
    ("early > mid", "early", "mid", METRICS[0]),
    ("early > late", "early", "late", METRICS[0]),
    ("foreground > background blocks", "foreground", "background", METRICS[0]),
    ("foreground > last half", "foreground", "last half", METRICS[0]),
    ("first half > last half", "first half", "last half", METRICS[0]),
    ("scalar > energy in gain", ALIGNVID, "energy", METRICS[0]),
    ("energy > scalar in looks (rest untouched)", "energy", ALIGNVID, METRICS[1]),
    ("blur of the input raises fidelity", "input blur 2", BASELINE, METRICS[0]),
    ("blur of the input costs looks (rest untouched)", BASELINE, "input blur 2", METRICS[1]),
)
