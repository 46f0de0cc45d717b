"""The contract of an attachment: it acts exactly as its recipe says, or says that it does not.

Every sentence that says so goes through `Contract.warn`: a ContractWarning, or with strict=True a ContractError.
Nothing else in `attachment` and `host` warns, which a test checks.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Hashable
from typing import Literal

from alignvid.errors import ContractError, ContractWarning

Kind = Literal[
    "extreme gain",
    "earlier attachment",
    "foreign processor",
    "nothing multiplied",
    "idle attentions",
    "skipped blocks",
    "unknown vision tokens",
    "empty streams",
    "empty reference",
    "mixed streams",
    "missing words",
    "assumed fraction",
    "unknown fraction",
    "unknown branch",
    "unknown guidance",
    "another transformer",
    "detached late",
]
"""What it may be about."""

_PASSED_OVER = frozenset({"alignvid", "beartype", "contextlib", "diffusers", "jaxtyping", "torch"})
"""Packages between a user's line and a warning, which is shown at that line."""


class Contract:
    """Where the sentences go that say where a gain does not act as its recipe says."""

    def __init__(self, *, is_strict: bool = False) -> None:
        """Nothing is said yet. `is_strict`: whether each sentence is an error."""
        self.is_strict = is_strict
        self.said: dict[Kind, str] = {}
        """The last sentence of each kind."""
        self._seen: set[tuple[Kind, Hashable]] = set()

    def warn(self, kind: Kind, sentence: str, *, once_in: Hashable = None) -> None:
        """Warn of something, once in what `once_in` names, such as a run; each time if that is None.

        Raises: ContractError if the attachment is strict, each time.
        """
        if not self.is_strict and once_in is not None and (kind, once_in) in self._seen:
            return
        self._seen.add((kind, once_in))
        self.said[kind] = sentence
        if self.is_strict:
            raise ContractError(sentence)
        _warn_at_users_line(sentence)


def _warn_at_users_line(sentence: str) -> None:
    """Without a registry: what was warned of in an earlier run is warned of in this one again."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "__main__")
    warnings.warn_explicit(sentence, ContractWarning, frame.f_code.co_filename, frame.f_lineno, module, registry=None)
