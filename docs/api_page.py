"""docs/api.md, every public name with its first sentence, and docs/api/, which mkdocstrings fills in on the site."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

ROOMS = {
    "alignvid": "Attach, look, schedule. `import alignvid` loads neither torch nor diffusers.",
    "alignvid.errors": "What is raised on purpose; each is one sentence for a user.",
    "alignvid.modulation": "What is done to attention: one frozen dataclass for each kind.",
    "alignvid.presets": "Recipes with a name and a provenance.",
    "alignvid.models": "What a family of transformers is ([families](families.md)).",
    "alignvid.host": "Who runs a model ([hosts](hosts.md)).",
    "alignvid.generate": "From a spec to a video and its record.",
    "alignvid.following": "Attempts, judged, until the prompt is followed ([following](following.md)).",
    "alignvid.calibration": "Which blocks look at the foreground ([calibration](calibration.md)).",
    "alignvid.plots": "Figures of traces, as SVG and PNG of the same bytes from the same numbers.",
    "alignvid.miniature": "The model inside the package.",
    "alignvid.bench.judges": "What answers questions about videos ([judging](judging.md)).",
    "alignvid.bench.metrics": "Numbers of videos ([metrics](metrics.md)).",
}
WITHOUT_LIST = {
    "alignvid.errors": lambda room: [name for name, value in vars(room).items() if _is_error(room, value)],
    "alignvid.presets": lambda room: ["Preset", "load", "names"],
}
HEAD = """# Which names are public?

Written by `make docs`. What is listed here is what [support](support.md) speaks of; the rest may change at any time. On
the site (`make site`) the page of each room has signatures, shapes, units, errors, sources and examples; elsewhere
`help(alignvid.attach)` says the same. Examples of `alignvid` itself are run by the tests (`tests/test_docstrings.py`).
"""
ROOM_HEAD = """# `{room}`

{about} The site (`make site`) fills in what the code says of each name; [all public names](../api.md) in one list.
"""


def public_names(room: str) -> list[str]:
    """Names of a room, as it lists them."""
    module = import_module(room)
    return sorted(WITHOUT_LIST[room](module) if room in WITHOUT_LIST else module.__all__, key=str.lower)


def api_page() -> str:
    """docs/api.md."""
    return "\n".join([HEAD, *map(_list, ROOMS)])


def room_page(room: str) -> str:
    """The page of a room in docs/api/."""
    module = import_module(room)
    values = {name: getattr(module, name) for name in public_names(room)}
    described = {name: value for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)}
    about = re.sub(r"\]\((\w+\.md)\)", r"](../\1)", ROOMS[room])
    entries = [_entry(f"{room}.{name}", value) for name, value in described.items()]
    return "\n".join([ROOM_HEAD.format(room=room, about=about), *entries])


def _entry(name: str, value: Any) -> str:
    """Where its code is, under the name by which it is imported."""
    return f"::: {value.__module__}.{value.__name__}\n    options:\n      heading: {name}\n"


def _list(room: str) -> str:
    module = import_module(room)
    rows = [f"| `{name}` | {_first_sentence(getattr(module, name))} |" for name in public_names(room)]
    head = [
        f"## {room}\n",
        f"{ROOMS[room]} [All that the code says](api/{room}.md).\n",
        "| name | what you get |",
        "|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _first_sentence(value: object) -> str:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return f"`{value!r}`" if isinstance(value, int | float | str) else "a constant"
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.sub(r"(?<=[.?!]) (?=[A-Z]).*", "", text).replace("|", "\\|")


def _is_error(room: object, value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == room.__name__  # type: ignore[attr-defined]
