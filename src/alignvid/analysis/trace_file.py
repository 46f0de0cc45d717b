"""A trace as one file: safetensors, with the words in the JSON of its header.

Tensors: `values` (fact, head), `integers` (fact, block section step), `words` (fact, word column; an index into the
column's vocabulary), `noise_levels` (fact), and `map.N` (frame, height, width) for each attention map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from alignvid.analysis.facts import AttentionMap, Fact
from alignvid.errors import TraceError, UnreadableFile
from alignvid.fields import OPEN, json_values, read
from alignvid.files import check_file

SCHEMA_VERSION = 1

_VERSION_KEY, _CONTENT_KEY = "alignvid_trace", "content"
_WORDS = ("host", "stack", "site", "branch", "query", "keys", "measure")
_INTEGERS = ("block", "section", "step")


class _Origin(TypedDict):
    """Where a trace comes from; it may say more."""

    versions: NotRequired[dict[str, str]]
    models: dict[str, dict[str, Any]]


class _Written(TypedDict):
    """The JSON in a trace's header."""

    origin: Annotated[_Origin, OPEN]
    problems: list[str]
    vocabularies: dict[str, list[str]]
    maps: list[dict[str, Any]]


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
        check_file(path)
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except UnreadableFile as error:
        if error.is_missing:
            raise TraceError(f"There is no trace {str(path)!r}; give a file written by trace.save(…).") from None
        raise TraceError(f"{str(path)!r} is cut short or is no trace ({error.reason}); record it again.") from error
    except (SafetensorError, OSError, UnicodeError) as error:
        raise TraceError(f"{str(path)!r} is cut short or is no trace ({error}); record it again.") from error
    _check_version(path, header)
    try:
        values = json_values(header[_CONTENT_KEY], error=ValueError)
        return _content(read(_Written, values, what="its header", error=ValueError), tensors)
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise TraceError(f"The trace {str(path)!r} is damaged ({error!r}); record it again.") from error


def _check_version(path: Path, header: Mapping[str, str]) -> None:
    if _VERSION_KEY not in header:
        raise TraceError(f"{str(path)!r} is a safetensors file, but not a trace; give one written by trace.save(…).")
    if header[_VERSION_KEY] != str(SCHEMA_VERSION):
        raise TraceError(
            f"The trace {str(path)!r} has schema version {header[_VERSION_KEY]}, but this alignvid reads version "
            f"{SCHEMA_VERSION}; record it again, or read it with the version that wrote it."
        )


def _content(written: _Written, tensors: Mapping[str, np.ndarray]) -> Content:
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
    return Content(dict(written["origin"]), facts, maps, written["problems"])
