"""Until the prompt is followed: attempts with new noise, each judged, the best of them kept.

A judge is any callable; this room knows none but the rule that reads the miniature's pictures. `alignvid.follow` runs
any diffusers pipeline, `generate_until_followed` a GenerationSpec in a folder. docs/following.md says what it measured.
"""

from alignvid.extras import require

require("generate", "The loop until a prompt is followed", "diffusers", "transformers", "numpy", "PIL", "av")

from alignvid.following.attempts import Attempt, Ended, Followed
from alignvid.following.floors import Floor
from alignvid.following.follow import follow
from alignvid.following.generating import generate_until_followed
from alignvid.following.limits import Limits
from alignvid.following.motion import motion
from alignvid.following.picture_rule import PictureRule
from alignvid.following.questions import Answer, Answered, Judge, Question

__all__ = [
    "Answer",
    "Answered",
    "Attempt",
    "Ended",
    "Floor",
    "Followed",
    "Judge",
    "Limits",
    "PictureRule",
    "Question",
    "follow",
    "generate_until_followed",
    "motion",
]
