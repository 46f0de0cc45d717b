"""The effects of an emphasis: a factor, or a constant through the mask, for each chosen word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.log_bias import token_bias_effects
from alignvid.attachment.effects.words import emphasis_rule, token_gain_effects
from alignvid.attachment.placement import Placement, with_firsts
from alignvid.host.transformers import Host
from alignvid.modulation.emphasis import Emphasis


def emphasis_effects(modulation: Emphasis, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect for each kind of norm, or of attention where it is the odds that are multiplied."""
    rule = partial(emphasis_rule, modulation)
    if modulation.by == "gain":
        return token_gain_effects(list(with_firsts(placements)), rule, host.family)
    return token_bias_effects(placements, rule, host.family)
