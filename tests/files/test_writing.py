import multiprocessing
import os
from pathlib import Path

import pytest

from alignvid.errors import InputError, OutputError
from alignvid.files import folder_for_results, held, writable_folder, write_bytes, write_together
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
    monkeypatch.setattr(os, "fsync", interrupt)
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


def test_only_a_full_disk_is_said_to_need_space(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError) as refused:
        write_bytes(tmp_path / "a.mp4", b"")
    assert "space" not in str(refused.value) and "Is a directory" in str(refused.value)


def test_a_folder_that_was_made_for_results_goes_with_its_parents_if_there_are_none(tmp_path):
    with pytest.raises(KeyboardInterrupt), folder_for_results(tmp_path / "new" / "out") as folder:
        assert folder.is_dir()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_or_holds_something_stays(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError), folder_for_results(tmp_path / "out"):
        raise InputError("no")
    with pytest.raises(InputError), folder_for_results(tmp_path / "new" / "out") as folder:
        (folder.parent / "kept").write_bytes(b"")
        raise InputError("no")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["new", "new/kept", "out"]


def test_a_folder_with_results_stays(tmp_path):
    with folder_for_results(tmp_path / "new") as folder:
        write_bytes(folder / "a", b"b")
    assert contents(tmp_path / "new") == {"a": b"b"}
