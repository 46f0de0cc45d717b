"""Read files of others, which may be anything: only regular ones, of limited size, named in every error."""

import contextlib
import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import json_values

MAX_BYTES = 1 << 30
"""Of a file that is read whole. OmitI2V's meta.json has 0.4 MB, the answers of a run with 10,000 videos 30 MB."""
_CHUNK_BYTES = 1 << 20
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


@contextlib.contextmanager
def opened(path: str | Path, *, max_bytes: int | None = None) -> Iterator[BinaryIO]:
    """A file of others, open for reading; every file that is not this package's own is opened here.

    Only a regular file is opened: a pipe would wait for ever, and a device may do anything.

    Raises: UnreadableFile, also if reading fails inside the block.
    """
    with _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise UnreadableFile(str(path), f"it has {size:,} bytes, and at most {max_bytes:,} are read")
        try:
            yield file
        except OSError as error:
            raise UnreadableFile(str(path), error.strerror or str(error)) from error


def read_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A file of others, whole. Raises: UnreadableFile."""
    with opened(path, max_bytes=max_bytes) as file:
        return file.read(max_bytes + 1)


def read_json(path: str | Path, *, mends_text: bool = False) -> Any:
    """What a JSON file of others holds. Raises: UnreadableFile, also if it is no JSON."""
    try:
        return json_values(read_bytes(path), error=InputError, mends_text=mends_text)
    except UnreadableFile:
        raise
    except InputError as error:
        raise UnreadableFile(str(path), f"it is no JSON ({error})") from error


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file of others that hold anything, with their numbers from 1 on.

    The last one is a line also without a line break at its end, which is kept: who was killed while writing it left
    a part of it.

    Raises: UnreadableFile.
    """
    with opened(path, max_bytes=MAX_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if line.strip(b" \t\r\n\xef\xbb\xbf"):
                yield number, line


def check_file(path: str | Path) -> None:
    """Before a library opens a file itself. Raises: UnreadableFile if it is none that could be read."""
    with opened(path):
        pass


def is_there(path: str | Path) -> bool:
    """Whether there is anything of that name; False where no file can have it."""
    try:
        return os.path.lexists(path) and os.path.exists(path)
    except (OSError, ValueError):
        return False


def user_path(text: str | Path) -> Path:
    """The path that a user gave, with "~" as the shell reads it. Raises: InputError if there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{str(text)!r} begins with the home of a user who is not here; write the path out."
        ) from error


def found_below(folder: Path, name: str) -> Path:
    """The file that a text of others names, below a folder.

    Folders pass through systems that write names differently: backslashes between them, and accents as one character
    or as two (NFC, NFD). What is there under that very name comes first.
    """
    literal = folder / name
    if is_there(literal):
        return literal
    place = folder
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        place = _child(place, part)
    return place if is_there(place) else literal


def is_foreign(file: Path) -> bool:
    """Whether a file was put beside ours by a system: .DS_Store, ._name, Thumbs.db, desktop.ini."""
    return file.name.startswith(".") or file.name.lower() in {"thumbs.db", "desktop.ini"}


def sha256_of_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces. Raises: UnreadableFile."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _open_regular(path: str | Path) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(path, os.stat(path))
        file = os.fdopen(os.open(path, flags), "rb")
        _check_regular(path, os.fstat(file.fileno()))  # again: it may have been exchanged
    except FileNotFoundError as error:
        raise UnreadableFile(str(path), "it does not exist", is_missing=True) from error
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from error
    except UnreadableFile:
        raise
    except ValueError as error:  # a NUL, or half a character
        raise UnreadableFile(str(path), f"no path can have such characters ({error})", is_missing=True) from error
    return file


def _check_regular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "is no regular file")
        raise UnreadableFile(str(path), f"it {kind}, and a file is needed")


def _child(folder: Path, name: str) -> Path:
    """What lies in a folder under a name, however its accents are written."""
    if is_there(folder / name):
        return folder / name
    wanted = unicodedata.normalize("NFC", name)
    try:
        return next(child for child in folder.iterdir() if unicodedata.normalize("NFC", child.name) == wanted)
    except (OSError, ValueError, StopIteration):
        return folder / name
