"""Let PyPI's torchvision be imported beside a CPU build of torch from elsewhere.

torchvision's Python code registers on two operators of its C++ library, which does not load beside another build of
torch. Declaring them first is enough for its transforms and models; only calling `nms` stays impossible. The Makefile
puts this file into .venv where torchvision does not load otherwise.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators(MetaPathFinder):
    """Finds nothing itself; declares the operators just before torchvision is imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """None, so that the usual finders look."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def _declare() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda is not None or spec is None:
        return
    for operator in _OPERATORS:
        torch.library.define(f"torchvision::{operator}", _SCHEMA)


if not any(type(finder).__name__ == DeclareOperators.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, DeclareOperators())
