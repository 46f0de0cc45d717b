"""Write files that appear under their final name only when they are complete."""

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from alignvid.errors import InputError, OutputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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


@contextlib.contextmanager
def folder_for_results(folder: Path) -> Iterator[Path]:
    """A writable folder inside the block; if the block does not end well, folders that were made for it go again.

    Those that hold anything by then stay.

    Raises: OutputError as `writable_folder`.
    """
    made = [path for path in (folder, *folder.parents) if not _is_there(path)]
    try:
        yield writable_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            for path in made:
                path.rmdir()
        raise


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


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return True  # not to be made, and so not to be removed


def _flush_folder(folder: Path) -> None:
    """Make the renames themselves survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
