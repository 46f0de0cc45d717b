"""What distinguishes one model from another, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from alignvid.files import is_foreign, opened, sha256_of_file, user_path
from alignvid.generate.loading import ModelSource
from alignvid.generate.loras import SECOND_TRANSFORMER

_SAMPLE_BYTES = 4 << 20
_PLACES = 3
_FILES = (".json", ".safetensors", ".txt", ".model")


class ModelIdentity(TypedDict):
    """A model; revision or digest of the weights where it is known."""

    name: str
    """As the user wrote it: not what distinguishes it."""
    pipeline: str
    revision: str | None
    """The commit on the Hub."""
    digest: str | None
    """Of a folder's files."""
    loras: NotRequired[list[str]]
    """Each with its digest, in the order of loading."""


def model_identity(source: ModelSource, loras: Sequence[str] = ()) -> ModelIdentity:
    """Name, pipeline class, the commit on the Hub or a digest of the files, and each LoRA that is loaded over them.

    Raises: UnreadableFile.
    """
    revision = None if source.is_local else _revision(source)
    digest = folder_digest(Path(source.location)) if source.is_local else None
    facts: ModelIdentity = {
        "name": source.name,
        "pipeline": source.pipeline_class,
        "revision": revision,
        "digest": digest,
    }
    if source.is_distilled:
        loras = (*_own_loras(), *loras)
    if loras:
        facts["loras"] = [_lora_identity(lora) for lora in loras]
    return facts


def _own_loras() -> list[str]:
    from alignvid.miniature import lora_folder

    return [str(file) for file in lora_folder().glob("*.safetensors")]


def _lora_identity(lora: str) -> str:
    """The file's name and digest, with the transformer that it is for."""
    file = user_path(lora.removeprefix(SECOND_TRANSFORMER))
    if not file.is_file():
        return lora
    which = SECOND_TRANSFORMER if lora.startswith(SECOND_TRANSFORMER) else ""
    return f"{which}{file.name}@{sha256_of_file(file)}"


def folder_digest(folder: Path) -> str:
    """SHA-256 over a model folder: names and sizes of its files, and up to 12 MiB of each.

    Of a larger file the beginning, the middle and the end are read. A checkpoint that was trained on differs
    everywhere, and to read 30 GB anew at every start would take minutes. Files that systems put beside ours do not
    count.

    Raises: UnreadableFile.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _FILES and path.is_file()):
        if is_foreign(path):
            continue
        with opened(path) as file:
            size = file.seek(0, os.SEEK_END)
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
            for start in _starts(size):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _starts(size: int) -> list[int]:
    if size <= _PLACES * _SAMPLE_BYTES:
        return [index * _SAMPLE_BYTES for index in range(_PLACES)]
    return [0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES]


def _revision(source: ModelSource) -> str | None:
    """The commit that the Hub's name stands for now: the folder of its snapshot."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model_index.json", "config.json"):
        found = try_to_load_from_cache(source.location, name)
        if isinstance(found, str):
            return Path(found).parent.name
    return None
