"""Audit the loop's own rule, which reads picture and prompt, on clips of known truth: rendered, not generated."""

from __future__ import annotations

import functools
from typing import NamedTuple

from PIL import Image

from alignvid.bench.audits.exact import ExactSample, Showing, exact_samples
from alignvid.following.picture_rule import PictureRule
from alignvid.following.questions import asked
from alignvid.miniature.drawing import first_frame

SCENES = 12
"""Of OmitShapes; about four seconds of one core."""


class RuleAudit(NamedTuple):
    """What the rule says of the edit in clips that do not show it, and in clips that do."""

    false_yes: int
    of_wrong: int
    false_no: int
    of_right: int


@functools.cache
def audit_picture_rule(scenes: int = SCENES) -> RuleAudit:
    """Ask the rule about the first scenes of OmitShapes, each with its edit shown, not shown, and shown elsewhere."""
    samples = exact_samples(scenes)
    right = [_says_yes(item, "shown") for item in samples]
    wrong = [_says_yes(item, "not shown") for item in samples]
    wrong += [_says_yes(item, "elsewhere") for item in samples if item.scene.edit.kind != "move"]  # may say no place
    return RuleAudit(sum(wrong), len(wrong), right.count(False), len(right))


def _says_yes(item: ExactSample, showing: Showing) -> bool:
    rule = PictureRule(Image.fromarray(first_frame(item.scene)), item.sample.prompt)
    edit = next(one for one in asked(rule, item.clip(showing), rule.questions) if one.question.about == "edit")
    return edit.is_right
