"""Read files of others, which may be anything; write files that appear under their name only when they are complete."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from alignvid.errors import InputError, OutputError, UnreadableFile
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
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
            raise UnreadableFile(str(path), _reason(error)) from error


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


def writable_folder(folder: Path) -> Path:
    """Make the folder if it is missing and prove, by writing a byte, that files can be written in it.

    Raises: OutputError if it cannot be made, is a file, is read-only or has no space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part") as probe:
            probe.write(b"\0")
            probe.flush()
    except (OSError, ValueError) as error:
        raise OutputError(
            f"Cannot write into {str(folder)!r}: {_reason(error)}; choose another output folder."
        ) from error
    return folder


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write every file beside its final place, then rename all of them, in the order given.

    A full disk or a Ctrl-C before the first rename leaves the folder as it was. Put the file that says
    "all of this is there" last.

    Raises: OutputError if a file cannot be written.
    """
    try:
        with _parts(folder, contents) as parts:
            for name, part in parts.items():
                os.replace(part, folder / name)
        _flush_folder(folder)
    except OSError as error:
        names = ", ".join(contents)
        remedy = "free some space or choose" if error.errno in _NO_SPACE else "choose"
        raise OutputError(
            f"Cannot write {names} into {str(folder)!r}: {_reason(error)}; "
            f"{remedy} another output folder, nothing there was changed."
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file so that a reader sees the old content or all of the new one."""
    write_together(path.parent, {path.name: data})


@contextlib.contextmanager
def held(lock: Path, *, busy: str, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes out of the block, by a lock that the system frees when this process ends, however it ends.

    On a file system without locks nobody is kept out.

    Raises: InputError with the text `busy` if another process has it for longer than `wait_s`; OutputError if the file
    cannot be made.
    """
    file_lock = FileLock(lock, timeout=wait_s)
    try:
        with contextlib.suppress(NotImplementedError):
            file_lock.acquire()
    except Timeout as error:
        raise InputError(busy) from error
    except OSError as error:
        raise OutputError(
            f"Cannot write into {str(lock.parent)!r}: {_reason(error)}; the folder must be writable."
        ) from error
    try:
        yield
    finally:
        file_lock.release()


def sha256_of_bytes(data: bytes) -> str:
    """The SHA-256 of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces. Raises: UnreadableFile."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _parts(folder: Path, contents: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
    """The contents on disk under names that end in `.part`; what is not renamed by the end is removed."""
    token = secrets.token_hex(4)  # process ids repeat: in containers on one disk the first process of each is number 1
    parts = {name: folder / f".{name}.{token}.part" for name in contents}
    try:
        for name, data in contents.items():
            with parts[name].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        yield parts
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the renames themselves survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_regular(path: str | Path) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(path, os.stat(path))
        file = os.fdopen(os.open(path, flags), "rb")
        _check_regular(path, os.fstat(file.fileno()))  # again: it may have been exchanged
    except FileNotFoundError as error:
        raise UnreadableFile(str(path), "it does not exist", is_missing=True) from error
    except OSError as error:
        raise UnreadableFile(str(path), _reason(error)) from error
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


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
