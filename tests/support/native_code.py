"""Code of other repositories that tests run against, where a checkout of it is at hand (make test-hosts)."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import alignvid

FOLDER = os.environ.get("ALIGNVID_HOSTS", "")


def needs(repository: str) -> Any:
    """A mark that skips where there is no checkout of it, and says how to get one."""
    missing = not FOLDER or not (Path(FOLDER) / repository).is_dir()
    return pytest.mark.skipif(missing, reason=f"no checkout of {repository}: make test-hosts")


@contextmanager
def imported_from(repository: str, *modules: str) -> Iterator[list[Any]]:
    """Modules of a checkout, forgotten afterwards: two checkouts have packages of one name.

    Packages around them are not run themselves: those of Wan 2.2 bring speech and animation with them. Wan's text
    encoder asks for the CUDA device where it is defined, as a default that is not used here.
    """
    root = modules[0].partition(".")[0]
    names = [name for name in sys.modules if name.partition(".")[0] == root]
    earlier = {name: sys.modules.pop(name) for name in names}
    sys.path[:0] = [str(Path(FOLDER) / repository), str(Path(FOLDER) / "deps")]
    for module in modules:
        parts = module.split(".")[:-1]
        for count in range(1, len(parts) + 1):
            package = ModuleType(".".join(parts[:count]))
            package.__path__ = [str(Path(FOLDER, repository, *parts[:count]))]
            sys.modules.setdefault(package.__name__, package)
    patched = pytest.MonkeyPatch()
    if not torch.cuda.is_available():
        patched.setattr(torch.cuda, "current_device", lambda: 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [importlib.import_module(module) for module in modules]
        yield found
    finally:
        patched.undo()
        del sys.path[:2]
        for name in [name for name in sys.modules if name.partition(".")[0] == root]:
            del sys.modules[name]
        sys.modules.update(earlier)


def overheard(run: Callable[[], torch.Tensor], model: Any, steps: Any) -> list[Any]:
    """Entropies in these steps of a run, which must be as it is without being overheard, then and afterwards."""
    plain = run()
    with alignvid.observe(model, steps=steps) as trace:
        assert torch.equal(run(), plain)
    assert torch.equal(run(), plain)
    return [fact for fact in trace.facts if fact.measure == "entropy"]
