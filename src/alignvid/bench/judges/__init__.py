"""Judges: a video and its questions in, replies out.

A judge is known by the entry point group "alignvid.judges"; the built-in ones register the same way as those of a third
party. docs/judging.md says how each of them asks, and how to write another.
"""

from alignvid.bench.judges.base import Case, Judge, JudgeIdentity, JudgeKind, JudgeOptions, Reply
from alignvid.bench.judges.registry import judge_names, open_judge

__all__ = [
    "Case",
    "Judge",
    "JudgeIdentity",
    "JudgeKind",
    "JudgeOptions",
    "Reply",
    "judge_names",
    "open_judge",
]
