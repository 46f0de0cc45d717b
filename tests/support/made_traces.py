"""Traces made of chosen numbers, as an observed Wan image-to-video run has them."""

import numpy as np

from alignvid.analysis.facts import AttentionMap, Fact
from alignvid.analysis.trace import Trace

ATTENTIONS = (("cross", "image"), ("cross", "text"), ("self", "video"))
MODELS = {"transformer": {"transformer": "WanTransformer3DModel", "family": "wan", "config_sha256": "12"}}


def made_fact(value, *, site="cross", keys="text", block=0, step=0, measure="entropy", query="video"):
    return Fact("transformer", "blocks", block, site, 0, step, 0.9, "cond", query, keys, measure, (value,))


def made_trace(shift=0.0, *, blocks=3, steps=4, words=()):
    """Entropy block + 0.1 step + shift everywhere, and a pooled mass in cross-attention."""
    facts = []
    for block in range(blocks):
        for step in range(steps):
            place = {"block": block, "step": step}
            facts += [made_fact(block + 0.1 * step + shift, site=s, keys=k, **place) for s, k in ATTENTIONS]
            facts += [made_fact(0.5, keys=keys, measure="pooled_mass", **place) for keys in ("image", "text")]
    return Trace({"models": MODELS}, facts, [made_map(word) for word in words])


def made_map(name, shape=(3, 2, 2), value=0.25):
    return AttentionMap(name, "transformer", "blocks", 0, "cross", 0, 0, "cond", np.full(shape, value, np.float32))
