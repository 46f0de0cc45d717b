"""The rooms under src/alignvid: few enough to see at once, all on the README's map, in the order that imports keep."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "alignvid"
MOST_FILES, MOST_FOLDERS, MOST_LAYERS = 10, 18, 14


def layers() -> list[list[str]]:
    """The rooms of each layer, from what a user types down to plain values."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(item for item in project["tool"]["importlinter"]["contracts"] if item["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def rooms_of_the_map() -> list[str]:
    """Files and folders directly under src/alignvid, as the README names them."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("src/alignvid/\n")[2].partition("```")[0]
    return [name.removesuffix(".py") for name in re.findall(r"^  (\w+)(?:\.py|/)", tree, re.MULTILINE)]


def test_the_package_has_few_rooms_in_few_layers():
    files = [path.name for path in PACKAGE.glob("*.py")]
    folders = [path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))]
    assert len(files) <= MOST_FILES, sorted(files)
    assert len(folders) <= MOST_FOLDERS, sorted(folders)
    assert len(layers()) <= MOST_LAYERS


def test_the_readmes_map_names_every_room_once():
    present = [path.stem for path in PACKAGE.glob("*.py")]
    present += [path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))]
    assert sorted(rooms_of_the_map()) == sorted(present)


def test_the_readmes_map_is_in_the_order_of_the_layers():
    depth = {room: number for number, layer in enumerate(layers()) for room in layer}
    found = [depth[room] for room in rooms_of_the_map() if room in depth]
    assert found == sorted(found)
