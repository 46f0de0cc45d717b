"""What a judge's reply means."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """YES, NO or UNPARSED are what a reply says; FAILED means that there is no reply, for reasons outside the video.

    MISSING is no verdict of a judge: there is no video to ask about. Scores count all five apart.
    """

    YES = "yes"
    NO = "no"
    UNPARSED = "unparsed"
    FAILED = "failed"
    MISSING = "missing"
