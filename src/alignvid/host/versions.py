"""Which versions of diffusers alignvid was tested with."""

from __future__ import annotations

import re
from importlib.metadata import version

from alignvid.errors import AttachmentError

OLDEST_DIFFUSERS = "0.37.0"
"""The lower bound of pyproject.toml, which a test compares."""


def check_versions(model: type) -> None:
    """Refuse a model of a diffusers older than the oldest tested one; a model of another library needs none.

    Args:
        model: class of the transformer.

    Raises: AttachmentError naming both versions.
    """
    if not any(base.__module__.partition(".")[0] == "diffusers" for base in model.__mro__):
        return
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
