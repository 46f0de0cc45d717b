"""Traces beside a generation's videos: what to observe, and the files read back with the record that names them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.analysis.maps import word_positions
from alignvid.analysis.observe import observe
from alignvid.analysis.trace import Trace
from alignvid.errors import InputError, TraceError
from alignvid.files import sha256_of_bytes, sha256_of_file
from alignvid.generate.call import token_limit
from alignvid.generate.record import Record, TraceFacts
from alignvid.generate.spec import parse_blocks
from alignvid.host import hosts
from alignvid.schedule import StepWindow

_PLAIN_PROMPTS = ("wan",)
"""Families that give their prompt to the tokenizer as it is; others put a template around it and drop its tokens."""


@dataclass(frozen=True, kw_only=True)
class ObservationSpec:
    """What to observe while the videos are made."""

    blocks: str = "all"
    """As in a GenerationSpec."""
    steps: str = "all"
    """"0.0-0.3" in fractions of the steps, "noise>0.9", or "all"."""
    words: tuple[str, ...] = ()
    """Words of the prompt to make attention maps of."""

    def __post_init__(self) -> None:
        parse_blocks(self.blocks)
        StepWindow.of(self.steps)


def parse_words(text: str) -> tuple[str, ...]:
    """Read "cat,sunglasses". Raises: InputError if no word is left."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise InputError(f"{text!r} names no word; write for example 'cat,sunglasses'.")
    return words


def check_words(pipeline: Any, prompt: str, spec: ObservationSpec | None) -> None:
    """Raises: InputError or ObservationError if a word of the spec cannot be found among the prompt's tokens."""
    if spec is not None:
        _maps(pipeline, prompt, spec)


@contextmanager
def observing(pipeline: Any, prompt: str, spec: ObservationSpec | None) -> Iterator[Trace | None]:
    """Observe inside the block, if there is a spec."""
    if spec is None:
        yield None
        return
    choice = {"blocks": parse_blocks(spec.blocks), "steps": spec.steps, "maps": _maps(pipeline, prompt, spec)}
    with observe(pipeline, **choice) as trace:
        yield trace


def trace_files(traces: Mapping[str, Trace]) -> dict[str, bytes]:
    """A file for each role's trace."""
    return {_file(role): trace.to_bytes() for role, trace in traces.items()}


def trace_facts(traces: Mapping[str, Trace], files: Mapping[str, bytes]) -> dict[str, TraceFacts]:
    """What a record says of the traces: enough to know them again."""
    return {
        role: {
            "file": _file(role),
            "sha256": sha256_of_bytes(files[_file(role)]),
            "models": dict(trace.origin["models"]),
            "words": list(dict.fromkeys(item.name for item in trace.maps)),
        }
        for role, trace in traces.items()
    }


def read_traces(folder: Path, record: Record) -> dict[str, Trace]:
    """The traces that a record names, by role.

    Raises: TraceError if there is none, or one is missing, damaged, of another model or of another run; InputError if
        what the record says of them was changed.
    """
    if not record.traces:
        raise TraceError(
            f"The run in {str(folder)!r} was not observed; make it again with "
            f"`alignvid generate --record {shlex.quote(str(folder / 'record.json'))} --observe --out …`."
        )
    if not all(_is_described(record, role) for role in record.traces):
        raise InputError(
            f"The record in {str(folder)!r} names traces that it does not describe; make the run again with --observe."
        )
    return {role: _read(folder / _file(role), facts) for role, facts in record.traces.items()}


def _is_described(record: Record, role: str) -> bool:
    facts, video = record.traces[role], record.outputs.get(role)
    return facts["file"] == _file(role) and video is not None


def _read(path: Path, facts: Mapping[str, Any]) -> Trace:
    trace = Trace.load(path)
    if trace.origin.get("models") != facts["models"]:
        raise TraceError(
            f"The trace {str(path)!r} is of another model ({_names(trace.origin.get('models', {}))}) than the record's "
            f"({_names(facts['models'])}); put the run's own trace back, or make the run again with --observe."
        )
    if sha256_of_file(path) != facts["sha256"]:
        raise TraceError(
            f"The trace {str(path)!r} is not the one of the record; put the original back, or make the run again with "
            "--observe."
        )
    return trace


def _names(models: Any) -> str:
    try:
        return ", ".join(f"{model['transformer']} {model['config_sha256'][:8]}" for model in models.values()) or "none"
    except (KeyError, TypeError, AttributeError):
        return "unreadable"


def _file(role: str) -> str:
    return f"{role}.trace"


def _maps(pipeline: Any, prompt: str, spec: ObservationSpec) -> dict[str, tuple[str, list[int]]]:
    return {word: ("text", _positions(pipeline, prompt, word)) for word in spec.words}


def _positions(pipeline: Any, prompt: str, word: str) -> list[int]:
    family, limit = hosts(pipeline)[0].family.name, token_limit(type(pipeline))
    if family not in _PLAIN_PROMPTS:
        raise InputError(
            f"Maps of words are made for the family {', '.join(_PLAIN_PROMPTS)} only, not for {family}, which puts a "
            "template around its prompt; leave --words out, or give alignvid.observe(maps=…) the positions."
        )
    if word.lower() not in prompt.lower():
        raise InputError(f"The word {word!r} is not in the prompt {prompt!r}; choose one that is.")
    positions = word_positions(pipeline.tokenizer, prompt, word)
    if limit is not None and positions[-1] >= limit:
        raise InputError(
            f"The model reads {limit} tokens, and {word!r} is number {positions[-1] + 1}; shorten the prompt."
        )
    return positions
