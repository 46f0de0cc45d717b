"""A ComfyUI workflow in API format with placeholders, such as "{{prompt}}" in place of a text.

What stands between the loader and the sampler is the user's own: LoRAs, four steps, guidance 1. Only AlignVid's nodes
and the placeholders are touched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.errors import InputError, UnreadableFile
from alignvid.files import read_json, user_path
from alignvid.generate.call import Defaults

NEEDED = ("prompt", "image", "seed")
OPTIONAL = ("steps", "guidance", "width", "height", "frames", "fps")
ATTACHES, REPORTS, SHOWS = "AlignVid", "AlignVidReport", "PreviewAny"
"""Types of nodes: this package's two, and ComfyUI's own that says a text in the API's history."""
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_PASSES_ON = {ATTACHES: "model", REPORTS: "after"}
"""What each of our nodes gives on its first output, where nothing is attached."""
WIDGETS: Mapping[str, Any] = {
    "preset": "auto",
    "strength": "preset",
    "gamma": 1.35,
    "follow": 0.5,
    "blocks": "",
    "steps": "",
    "streams": "",
    "branch": "preset",
    "measure": False,
}
"""Of an AlignVid node, as ComfyUI's page fills them in."""
_NAMES = {
    "width": ("width",),
    "height": ("height",),
    "frames": ("length", "num_frames", "frames"),
    "steps": ("steps",),
    "guidance": ("cfg", "guidance"),
    "fps": ("fps", "frame_rate"),
}
"""What ComfyUI's nodes call a number."""
_LOADERS = ("unet_name", "ckpt_name", "model_name", "gguf_name")

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Workflow:
    """A graph to be filled, once for each clip."""

    name: str
    """Of the model that it loads, or of its file."""
    graph: Mapping[str, Mapping[str, Any]]
    digest: str

    @property
    def placeholders(self) -> set[str]:
        """Their names."""
        return {name for _, text in _texts(self.graph) for name in _PLACEHOLDER.findall(text)}

    def defaults(self) -> Defaults:
        """The numbers that stand in it; of what is not there, the miniature's kind of guess: 832x480, 81 at 16."""
        found = {name: self._number(names) for name, names in _NAMES.items()}
        return Defaults(
            width=int(found["width"] or 832),
            height=int(found["height"] or 480),
            keeps_shape=False,
            frames=int(found["frames"] or 81),
            steps=int(found["steps"] or 20),
            guidance=found["guidance"],
            fps=float(found["fps"] or 16.0),
        )

    def filled(self, values: Mapping[str, Any], node: Mapping[str, Any] | None) -> Graph:
        """The graph of one clip.

        Args:
            values: By placeholder.
            node: Widgets of the AlignVid nodes; None takes these nodes, and what reads their texts, out.
        """
        graph: Graph = {key: _filled(dict(part), values) for key, part in self.graph.items()}
        if node is None:
            return _without_nodes(graph)
        for part in _of_type(graph, ATTACHES).values():
            part["inputs"] = {"model": part["inputs"]["model"], **WIDGETS, **node}
        for key in _of_type(graph, REPORTS):
            graph[f"{key}-said"] = {"class_type": SHOWS, "inputs": {"source": [key, 2]}}
        return graph

    def said(self, outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the report nodes say in a run's outputs, as data."""
        texts = [outputs.get(f"{key}-said", {}).get("text", []) for key in _of_type(dict(self.graph), REPORTS)]
        return [json.loads(text) for found in texts for text in found]

    def _number(self, names: tuple[str, ...]) -> float | None:
        for part in self.graph.values():
            for name in names:
                value = part["inputs"].get(name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return float(value)
        return None


def read_workflow(path: str) -> Workflow:
    """The workflow in a file.

    Raises: InputError if it is none in API format, or lacks a placeholder or a node, naming what to do.
    """
    try:
        graph = read_json(user_path(path))
    except UnreadableFile as error:
        raise InputError(
            f"The workflow {str(error).rstrip('.')}; give one that ComfyUI exported in API format."
        ) from error
    if not _is_graph(graph):
        raise InputError(f"{path!r} is no workflow in API format; in ComfyUI choose Workflow, Export (API).")
    digest = hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()
    found = Workflow(_model_of(graph) or Path(path).stem, graph, digest)
    _check(path, found)
    return found


def _check(path: str, workflow: Workflow) -> None:
    there = workflow.placeholders
    if missing := [name for name in NEEDED if name not in there]:
        raise InputError(
            f"{path!r} lacks the placeholder {{{{{missing[0]}}}}}; write it in place of the {missing[0]} in the file, "
            'as in "text": "{{prompt}}".'
        )
    if unknown := sorted(there - {*NEEDED, *OPTIONAL}):
        raise InputError(
            f"{path!r} has the placeholder {{{{{unknown[0]}}}}}, which is unknown; choose from "
            f"{', '.join((*NEEDED, *OPTIONAL))}."
        )
    for kind, place in ((ATTACHES, "between the loader and the sampler"), (REPORTS, "after the sampler")):
        nodes = _of_type(dict(workflow.graph), kind)
        if not nodes or not all(_PASSES_ON[kind] in part["inputs"] for part in nodes.values()):
            raise InputError(f"{path!r} has no connected {kind} node; put one {place}, it is in the pack in comfyui/.")


def _is_graph(graph: Any) -> bool:
    parts = graph.values() if isinstance(graph, dict) else []
    return bool(parts) and all(
        isinstance(part, dict) and isinstance(part.get("class_type"), str) and isinstance(part.get("inputs"), dict)
        for part in parts
    )


def _model_of(graph: Mapping[str, Any]) -> str | None:
    for part in graph.values():
        for name in _LOADERS:
            if isinstance(value := part["inputs"].get(name), str):
                return Path(value.replace("\\", "/")).stem
    return None


def _of_type(graph: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {key: part for key, part in graph.items() if part["class_type"] == kind}


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{place}/{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, place)


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """A placeholder alone becomes its value, a number too; inside a longer text it becomes text."""
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    if (whole := _PLACEHOLDER.fullmatch(value.strip())) is not None:
        return values[whole[1]]
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), value)


def _without_nodes(graph: Graph) -> Graph:
    """The graph as it was before AlignVid's nodes were put in."""
    for kind, passed in _PASSES_ON.items():
        for key, part in _of_type(graph, kind).items():
            del graph[key]
            _lead_past(graph, key, part["inputs"][passed])
    return graph


def _lead_past(graph: Graph, key: str, source: Any) -> None:
    """Join what was on both sides of a node that is gone; whoever read its texts goes, too."""
    for reader, part in list(graph.items()):
        for name, value in part["inputs"].items():
            if not isinstance(value, list) or value[:1] != [key]:
                continue
            if value[1] == 0:
                part["inputs"][name] = source
            elif graph.pop(reader, None) is not None:
                _lead_past(graph, reader, None)
