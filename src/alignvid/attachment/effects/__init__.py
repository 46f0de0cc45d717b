"""From placements to effects on modules: one way per kind of modulation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.conflict import conflict_effects
from alignvid.attachment.effects.energy import energy_effects
from alignvid.attachment.effects.log_bias import log_bias_effects, token_bias_effects
from alignvid.attachment.effects.pilot import key_blur_effects, low_pass_effects
from alignvid.attachment.effects.scalar import scalar_effects
from alignvid.attachment.effects.words import emphasis_rule, stream_rule, text_apart, token_gain_effects
from alignvid.attachment.placement import Placement, with_firsts
from alignvid.errors import ModulationError
from alignvid.host.transformers import Host
from alignvid.modulation import ConflictAware, Emphasis, Energy, KeyBlur, LogBias, LowPass, Modulation, Scalar


def effects_of(modulation: Modulation, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """The effects that a modulation puts on the modules of one transformer.

    Raises: UnknownTarget if the transformer lacks what this kind needs.
    """
    match modulation:
        case Scalar():
            return _scalar(host, placements)
        case Emphasis(by="gain"):
            return token_gain_effects(list(with_firsts(placements)), partial(emphasis_rule, modulation), host.family)
        case Emphasis():
            return token_bias_effects(placements, partial(emphasis_rule, modulation), host.family)
        case Energy():
            return energy_effects(modulation, host.family, placements)
        case ConflictAware():
            return conflict_effects(modulation, placements)
        case LogBias():
            return log_bias_effects(modulation, placements, host.family)
        case KeyBlur():
            return key_blur_effects(modulation, host, placements)
        case LowPass():
            return low_pass_effects(modulation, host)
    raise ModulationError(f"No way is known to put a modulation of kind {modulation.kind!r} on a model.")


def _scalar(host: Host, placements: Sequence[Placement]) -> list[Installed]:
    apart = [(*text_apart(placement), is_first) for placement, is_first in with_firsts(placements)]
    whole = [(placement, is_first) for placement, _, is_first in apart if placement is not None]
    tokens = [(placement, is_first) for _, placement, is_first in apart if placement is not None]
    by_token = token_gain_effects(tokens, lambda placement: stream_rule(dict(placement.gains), 1.0), host.family)
    return [*scalar_effects(whole), *by_token]
