"""Stand-ins for what an older diffusers lacks, so that a test that needs it is skipped with a sentence.

The tiny pipelines import their classes at the top of their files. With ALIGNVID_OLDEST set, a name of diffusers that is
missing is given to files of the tests, and to them alone, as a class that skips the test that uses it.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

LEFT_OUT = {
    "hunyuan_i2v_latent_concat_reading": "it looks for a line's end by token ids that the tiny tokenizer does not have",
    "leaves": "its group offloading by leaves needs an accelerator",
}
"""Names in the ids of tests that an older diffusers cannot run, with the reason; none of them is about alignvid."""

WARNINGS = ("Dynamo detected a call to:UserWarning",)  # its dispatch of attention, compiled with a newer torch
"""Of an older diffusers itself."""

_TESTS = str(Path(__file__).parents[1])
_SEARCHED = ("importlib", "_bootstrap")


class _Skips(type):
    """A class that skips the test that calls it; it can be imported and subclassed, and so can what it holds."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        _skip(cls)

    def __iter__(cls) -> Any:
        _skip(cls)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):  # of the language's own machinery
            raise AttributeError(name)
        return _stand_in(f"{cls.__qualname__}.{name}")


def _skip(missing: type) -> Any:
    pytest.skip(f"diffusers {version('diffusers')} has no {missing.__qualname__}")


def _stand_in(name: str) -> type:
    return _Skips(name.rpartition(".")[2], (), {"__qualname__": name})


def _is_a_tests(frame: FrameType | None) -> bool:
    """Whether the code that imports, behind the frames of importlib, is a file of the tests."""
    while frame is not None and any(part in frame.f_code.co_filename for part in _SEARCHED):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_TESTS)


class _StandIns(MetaPathFinder, Loader):
    """Comes after all other finders: modules of diffusers that do not exist."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """A spec of a stand-in; None where the import is not a test's."""
        if not name.startswith("diffusers.") or not _is_a_tests(sys._getframe(1)):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module with every name."""
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: _missing_of(module, name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: all is there."""


def _missing_of(module: ModuleType, name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return _stand_in(name)


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this diffusers cannot run, and pass over what it warns of itself."""
    if not os.environ.get("ALIGNVID_OLDEST"):
        return
    for warning in WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{warning}")
    for item in items:
        for name in set(LEFT_OUT) & set(re.split(r"[-,\[\]]", item.name)):
            item.add_marker(pytest.mark.skip(reason=f"diffusers {version('diffusers')}: {LEFT_OUT[name]}"))


def stand_in() -> None:
    """From now on, tests may import what this diffusers lacks."""
    from diffusers.utils.import_utils import _LazyModule

    own = _LazyModule.__getattr__

    def found_or_stand_in(self: Any, name: str) -> Any:
        try:
            return own(self, name)
        except AttributeError:
            if name.startswith("__") or not _is_a_tests(sys._getframe(1)):
                raise
            return _stand_in(name)

    _LazyModule.__getattr__ = found_or_stand_in
    sys.meta_path.append(_StandIns())


if os.environ.get("ALIGNVID_OLDEST"):
    stand_in()
