"""A trace as one file: safetensors, with the words in the JSON of its header.

Tensors: `values` (fact, head), `integers` (fact, block section step), `words` (fact, word column; an index into the
column's vocabulary), `noise_levels` (fact), and `map.N` (frame, height, width) for each attention map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from alignvid.analysis.facts import AttentionMap, Fact
from alignvid.errors import TraceError

SCHEMA_VERSION = 1

_VERSION_KEY, _CONTENT_KEY = "alignvid_trace", "content"
_WORDS = ("host", "stack", "site", "branch", "query", "keys", "measure")
_INTEGERS = ("block", "section", "step")


class Content(NamedTuple):
    """What a file holds; the fields of a Trace, in their order."""

    origin: dict[str, Any]
    facts: list[Fact]
    maps: list[AttentionMap]
    problems: list[str]


def encoded(
    origin: Mapping[str, Any], facts: Sequence[Fact], maps: Sequence[AttentionMap], problems: Sequence[str]
) -> bytes:
    """The bytes of a trace file."""
    vocabularies = {name: sorted({getattr(fact, name) for fact in facts}) for name in _WORDS}
    codes = {name: {word: code for code, word in enumerate(words)} for name, words in vocabularies.items()}
    words = [[codes[name][getattr(fact, name)] for name in _WORDS] for fact in facts]
    columns = list(zip_longest(*(fact.values for fact in facts), fillvalue=np.nan))  # transformers may differ in heads
    tensors = {
        "values": np.array(columns, np.float64).reshape(len(columns), len(facts)).T.copy(),
        "integers": np.array([[getattr(fact, name) for name in _INTEGERS] for fact in facts], np.int32),
        "words": np.array(words, np.int32),
        "noise_levels": np.array([fact.noise_level for fact in facts], np.float64),
        **{f"map.{index}": np.ascontiguousarray(item.weights) for index, item in enumerate(maps)},
    }
    content = {
        "origin": origin,
        "problems": list(problems),
        "vocabularies": vocabularies,
        "maps": [item._replace(weights=None)._asdict() for item in maps],  # type: ignore[arg-type]  # kept as a tensor
    }
    return save(tensors, {_VERSION_KEY: str(SCHEMA_VERSION), _CONTENT_KEY: json.dumps(content, sort_keys=True)})


def decoded(path: Path) -> Content:
    """Read a trace file. Raises: TraceError if it is missing, cut short, damaged, or of another schema version."""
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise TraceError(f"There is no trace {str(path)!r}; give a file written by trace.save(…).") from None
    except (SafetensorError, OSError) as error:
        raise TraceError(f"{str(path)!r} is cut short or is no trace ({error}); record it again.") from error
    _check_version(path, header)
    try:
        return _content(json.loads(header[_CONTENT_KEY]), tensors)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise TraceError(f"The trace {str(path)!r} is damaged ({error!r}); record it again.") from error


def _check_version(path: Path, header: Mapping[str, str]) -> None:
    if _VERSION_KEY not in header:
        raise TraceError(f"{str(path)!r} is a safetensors file, but not a trace; give one written by trace.save(…).")
    if header[_VERSION_KEY] != str(SCHEMA_VERSION):
        raise TraceError(
            f"The trace {str(path)!r} has schema version {header[_VERSION_KEY]}, but this alignvid reads version "
            f"{SCHEMA_VERSION}; record it again, or read it with the version that wrote it."
        )


def _content(written: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Content:
    vocabularies = [written["vocabularies"][name] for name in _WORDS]
    facts = []
    for codes, integers, noise_level, values in zip(
        tensors["words"].tolist(),
        tensors["integers"].tolist(),
        tensors["noise_levels"].tolist(),
        tensors["values"].tolist(),
        strict=True,
    ):
        words = dict(zip(_WORDS, (words[code] for words, code in zip(vocabularies, codes, strict=True)), strict=True))
        present = tuple(value for value in values if value == value)  # NaN only fills up
        facts.append(
            Fact(**words, **dict(zip(_INTEGERS, integers, strict=True)), noise_level=noise_level, values=present)
        )
    maps = [AttentionMap(**{**item, "weights": tensors[f"map.{i}"]}) for i, item in enumerate(written["maps"])]
    return Content(written["origin"], facts, maps, written["problems"])
