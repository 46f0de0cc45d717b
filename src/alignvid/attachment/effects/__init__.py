"""From placements to effects on modules: one way per kind of modulation."""

from __future__ import annotations

from collections.abc import Sequence

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.conflict import conflict_effects
from alignvid.attachment.effects.energy import energy_effects
from alignvid.attachment.effects.log_bias import log_bias_effects
from alignvid.attachment.effects.pilot import key_blur_effects, low_pass_effects
from alignvid.attachment.effects.scalar import scalar_effects
from alignvid.attachment.placement import Placement
from alignvid.errors import ModulationError
from alignvid.host.transformers import Host
from alignvid.modulation import ConflictAware, Energy, KeyBlur, LogBias, LowPass, Modulation, Scalar


def effects_of(modulation: Modulation, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """The effects that a modulation puts on the modules of one transformer.

    Raises: UnknownTarget if the transformer lacks what this kind needs.
    """
    match modulation:
        case Scalar():
            return scalar_effects(placements)
        case Energy():
            return energy_effects(modulation, host.family, placements)
        case ConflictAware():
            return conflict_effects(modulation, placements)
        case LogBias():
            return log_bias_effects(modulation, placements)
        case KeyBlur():
            return key_blur_effects(modulation, host, placements)
        case LowPass():
            return low_pass_effects(modulation, host)
    raise ModulationError(f"No way is known to put a modulation of kind {modulation.kind!r} on a model.")
