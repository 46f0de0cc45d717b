"""Which versions of diffusers alignvid was tested with."""

from __future__ import annotations

import re
from importlib.metadata import version

from alignvid.errors import AttachmentError

OLDEST_DIFFUSERS = "0.42.1"
"""The lower bound of pyproject.toml, which a test compares."""


def check_diffusers() -> None:
    """Refuse a diffusers older than the oldest tested one, before anything is imported from it.

    Raises: AttachmentError naming both versions.
    """
    installed = version("diffusers")
    if _numbers(installed) < _numbers(OLDEST_DIFFUSERS):
        raise AttachmentError(
            f"diffusers {installed} is older than {OLDEST_DIFFUSERS}, the oldest that alignvid was tested with; "
            'update it: pip install --upgrade "diffusers>=' + OLDEST_DIFFUSERS + '".'
        )


def _numbers(text: str) -> tuple[int, ...]:
    """The release of a version: (0, 43, 0) of "0.43.0.dev0"."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in release[0].split(".")) if release else ()
