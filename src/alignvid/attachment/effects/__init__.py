"""From placements to effects on modules: by the function that each kind of modulation names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from alignvid.attachment.effect import Installed
from alignvid.attachment.placement import Placement
from alignvid.attachment.refusals import refuse_reached
from alignvid.errors import ModulationError
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation, Scalar


def effects_of(modulation: Modulation, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """The effects that a modulation puts on the modules of one transformer.

    Raises: UnknownTarget if the transformer lacks what this kind needs; ModulationError if the kind names no function.
    """
    if not (isinstance(modulation, Scalar) or modulation.acts_at_call):
        refuse_reached(modulation.kind, placements)
    module, _, function = modulation.effects.partition(":")
    try:
        make = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModulationError(
            f"A modulation of kind {modulation.kind!r} names {modulation.effects!r} as what puts it on a model, which "
            f"cannot be imported: {error}."
        ) from error
    return make(modulation, host, placements)
