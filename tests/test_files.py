import contextlib
import multiprocessing
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from alignvid import files
from alignvid.errors import InputError, OutputError, UnreadableFile
from alignvid.files import (
    found_below,
    held,
    read_bytes,
    read_json,
    sha256_of_file,
    user_path,
    writable_folder,
    write_bytes,
    write_together,
)
from full_disk import MEBIBYTE, file_size_limit


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_written_together_are_all_there(tmp_path):
    write_together(tmp_path, {"a.mp4": b"video", "record.json": b"{}"})
    assert contents(tmp_path) == {"a.mp4": b"video", "record.json": b"{}"}


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path):
    write_together(tmp_path, {"a.mp4": b"old", "record.json": b"old"})
    with file_size_limit(MEBIBYTE), pytest.raises(OutputError, match="nothing there was changed"):
        write_together(tmp_path, {"a.mp4": b"new", "record.json": b"x" * 2 * MEBIBYTE})
    assert contents(tmp_path) == {"a.mp4": b"old", "record.json": b"old"}


def test_an_interrupt_while_writing_leaves_what_was_there(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    write_bytes(tmp_path / "a.mp4", b"old")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.mp4", b"new")
    assert contents(tmp_path) == {"a.mp4": b"old"}


def test_a_writable_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = writable_folder(tmp_path / "deep" / "down")
    assert folder.is_dir()
    assert not contents(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_bytes(b"kept")
    with pytest.raises(OutputError, match=r"Cannot write into .*out.*choose another output folder"):
        writable_folder(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root; /proc stands in for it below")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        writable_folder(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder that nobody may write into")
def test_a_folder_that_nobody_may_write_into_is_refused():
    with pytest.raises(OutputError, match="Cannot write into '/proc'"):
        writable_folder(Path("/proc"))


def test_a_lock_keeps_another_process_out_until_its_holder_ends_however_it_ends(tmp_path):
    fork = multiprocessing.get_context("fork")
    is_held, lock = fork.Event(), tmp_path / ".lock"

    def hold():
        with held(lock, busy=""):
            is_held.set()
            fork.Event().wait()

    holder = fork.Process(target=hold)
    holder.start()
    assert is_held.wait(60)
    with pytest.raises(InputError, match="busy elsewhere"), held(lock, busy="busy elsewhere"):
        pytest.fail("two processes are in")
    holder.kill()
    holder.join()
    with held(lock, busy="still held"):
        pass


def test_a_lock_where_nothing_can_be_written_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write into .*file'"), held(tmp_path / "file" / ".lock", busy=""):
        pytest.fail("there is no lock")


@pytest.fixture
def odd_paths(tmp_path):
    """Paths that are no file to read, by name; each with what is said of it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "to a pipe").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(tmp_path):
        bound.bind("socket")
    return {
        "pipe": "it is a pipe",
        "to a pipe": "it is a pipe",
        "socket": "it is a socket",
        "/dev/zero": "it is a device",
        ".": "it is a folder",
        "loop": "symbolic links",
        "missing": "does not exist",
        "missing/below": "does not exist",
        "x" * 300: "too long",
        "a\0b": "no path can have such characters",
        "half \ud83d": "no path can have such characters",
    }


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [read_bytes, sha256_of_file, read_json])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(odd_paths, tmp_path, read):
    for name, reason in odd_paths.items():
        with pytest.raises(UnreadableFile, match=reason):
            read(tmp_path / name)


def test_a_file_above_the_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", max_bytes=5) == b"12345"
    with pytest.raises(UnreadableFile, match="it has 5 bytes, and at most 4 are read"):
        read_bytes(tmp_path / "a", max_bytes=4)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(UnreadableFile, match=r"a\.json' cannot be read: it is no JSON .*the key 'a' is there twice"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("mark", ["/", "\\"])
def test_a_name_is_found_however_another_system_wrote_it(tmp_path, on_disk, written, mark):
    folder = tmp_path / unicodedata.normalize(on_disk, "fotos für é")
    folder.mkdir()
    file = folder / unicodedata.normalize(on_disk, "café.png")
    file.write_bytes(b"")
    name = unicodedata.normalize(written, f"fotos für é{mark}café.png")
    assert found_below(tmp_path, name).samefile(file)


def test_a_name_that_is_there_as_it_is_written_comes_first(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a\\b.png", "a/b.png"):
        (tmp_path / name).write_bytes(b"")
    assert found_below(tmp_path, "a\\b.png") == tmp_path / "a\\b.png"


def test_the_home_of_nobody_is_refused_and_the_user_s_own_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/cat.png") == tmp_path / "cat.png"
    with pytest.raises(InputError, match=r"'~nobody-here/cat\.png' begins with the home of a user who is not here"):
        user_path("~nobody-here/cat.png")


def test_only_a_full_disk_is_said_to_need_space(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError) as refused:
        write_bytes(tmp_path / "a.mp4", b"")
    assert "space" not in str(refused.value) and "Is a directory" in str(refused.value)
