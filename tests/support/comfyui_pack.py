"""The node pack of the folder `comfyui`, imported as ComfyUI does: from its path, under a name of its own."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "comfyui"
NAME = "alignvid_comfyui"


def pack(module: str = "") -> ModuleType:
    """The pack, or one of its modules."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return import_module(f"{NAME}.{module}") if module else sys.modules[NAME]
