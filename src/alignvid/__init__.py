"""Make a diffusers pipeline follow its prompt better, with no training and no fork (AlignVid, arXiv 2512.01334).

import alignvid
with alignvid.attach(pipe):
    video = pipe(image=image, prompt="the cat puts on sunglasses").frames[0]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignvid.analysis.observe import observe
    from alignvid.analysis.trace import Trace
    from alignvid.attachment.attach import attach, detach, preset_for
    from alignvid.attachment.attachment import Attachment
    from alignvid.blocks import BlockSet
    from alignvid.errors import AlignvidError
    from alignvid.following.follow import follow
    from alignvid.modulation import ConflictAware, Emphasis, Energy, KeyBlur, LogBias, LowPass, Scalar
    from alignvid.recipe import Recipe
    from alignvid.schedule import FlowSchedule, StepWindow

__version__ = "0.1.0"

_HOMES = {
    "AlignvidError": "alignvid.errors",
    "Attachment": "alignvid.attachment.attachment",
    "BlockSet": "alignvid.blocks",
    "ConflictAware": "alignvid.modulation",
    "Emphasis": "alignvid.modulation",
    "Energy": "alignvid.modulation",
    "FlowSchedule": "alignvid.schedule",
    "KeyBlur": "alignvid.modulation",
    "LogBias": "alignvid.modulation",
    "LowPass": "alignvid.modulation",
    "Recipe": "alignvid.recipe",
    "Scalar": "alignvid.modulation",
    "StepWindow": "alignvid.schedule",
    "Trace": "alignvid.analysis.trace",
    "attach": "alignvid.attachment.attach",
    "detach": "alignvid.attachment.attach",
    "follow": "alignvid.following.follow",
    "observe": "alignvid.analysis.observe",
    "preset_for": "alignvid.attachment.attach",
}

__all__ = [
    "AlignvidError",
    "Attachment",
    "BlockSet",
    "ConflictAware",
    "Emphasis",
    "Energy",
    "FlowSchedule",
    "KeyBlur",
    "LogBias",
    "LowPass",
    "Recipe",
    "Scalar",
    "StepWindow",
    "Trace",
    "attach",
    "detach",
    "follow",
    "observe",
    "preset_for",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import alignvid` loads neither torch nor diffusers."""
    if name not in _HOMES:
        raise AttributeError(f"module 'alignvid' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
