"""docs/api.md: every public name, for mkdocstrings to fill in on the site, with its first sentence everywhere."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

ROOMS = {
    "alignvid": "Attach, look, schedule. `import alignvid` loads neither torch nor diffusers.",
    "alignvid.errors": "What is raised on purpose; each is one sentence for a user.",
    "alignvid.modulation": "What is done to attention: one frozen dataclass for each kind.",
    "alignvid.presets": "Recipes with a name and a provenance.",
    "alignvid.models": "What a family of transformers is ([families](families.md)).",
    "alignvid.host": "Who runs a model ([hosts](hosts.md)).",
    "alignvid.generate": "From a spec to a video and its record.",
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
the site (`make site`) each name has its signature, shapes, units, errors, sources and an example below; elsewhere
`help(alignvid.attach)` says the same. Examples of `alignvid` itself are run by the tests (`tests/test_docstrings.py`).
"""


def public_names(room: str) -> list[str]:
    """Names of a room, as it lists them."""
    module = import_module(room)
    return sorted(WITHOUT_LIST[room](module) if room in WITHOUT_LIST else module.__all__, key=str.lower)


def api_page() -> str:
    """docs/api.md."""
    return "\n".join([HEAD, *(_room(room, about) for room, about in ROOMS.items())])


def _room(room: str, about: str) -> str:
    module = import_module(room)
    rows, entries = [], []
    for name in public_names(room):
        value = getattr(module, name)
        rows.append(f"| `{room}.{name}` | {_first_sentence(value)} |")
        if inspect.isclass(value) or inspect.isfunction(value):
            entries.append(f"::: {value.__module__}.{value.__name__}\n")
    return "\n".join([f"## {room}\n", f"{about}\n", "| name | what you get |", "|---|---|", *rows, "", *entries])


def _first_sentence(value: object) -> str:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return f"`{value!r}`" if isinstance(value, int | float | str) else "a constant"
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.sub(r"(?<=[.?!]) (?=[A-Z]).*", "", text).replace("|", "\\|")


def _is_error(room: object, value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == room.__name__  # type: ignore[attr-defined]
