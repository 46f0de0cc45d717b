import contextlib
import os
import socket
import unicodedata

import pytest

from alignvid.errors import InputError, UnreadableFile
from alignvid.files import found_below, read_bytes, read_json, read_lines, sha256_of_file, user_path


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


def test_lines_are_numbered_and_blank_ones_passed_over(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \ntwo\n\nthree")
    assert list(read_lines(tmp_path / "a")) == [(1, b"\xef\xbb\xbfone\r\n"), (4, b"two\n"), (6, b"three")]
