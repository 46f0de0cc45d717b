"""The folder of a calibration survives crashes and refuses what is not of its run."""

import os
from pathlib import Path

import numpy as np
import pytest

from alignvid.calibration.work_folder import PairRow, WorkFolder
from alignvid.errors import InputError, OutputError
from full_disk import file_size_limit

RUN = {"model": "tiny", "steps": 4}
ROW = PairRow("a", "0" * 64, 0.25, 0.3, [0.1 + 0.2, 1 / 3], [["blocks", 0], ["blocks", 1]])


def test_rows_are_read_back_exactly(tmp_path):
    WorkFolder(tmp_path, RUN).append(ROW)
    assert WorkFolder(tmp_path, RUN).rows == {"a": ROW}


def test_a_row_is_on_the_disk_once_it_is_appended(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    folder = WorkFolder(tmp_path, RUN)
    monkeypatch.setattr(os, "fsync", note)
    folder.append(ROW)
    assert flushed == ["pairs.jsonl"]


def test_a_line_that_was_cut_short_is_taken_off(tmp_path):
    folder = WorkFolder(tmp_path, RUN)
    folder.append(ROW)
    whole = (tmp_path / "pairs.jsonl").read_bytes()
    (tmp_path / "pairs.jsonl").write_bytes(whole + b'{"id": "b", "sha')
    folder = WorkFolder(tmp_path, RUN)
    assert folder.rows == {"a": ROW}
    assert (tmp_path / "pairs.jsonl").read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_refused(tmp_path):
    WorkFolder(tmp_path, RUN).append(ROW)
    (tmp_path / "pairs.jsonl").write_bytes(b"{}\n" + (tmp_path / "pairs.jsonl").read_bytes())
    with pytest.raises(InputError, match=r"pairs.jsonl' is damaged .*; delete its folder to begin anew"):
        WorkFolder(tmp_path, RUN)


def test_another_run_in_the_folder_is_refused_and_says_what_differs(tmp_path):
    WorkFolder(tmp_path, RUN)
    with pytest.raises(InputError, match="with other steps: 4 then, 5 now; give the same again to resume it"):
        WorkFolder(tmp_path, RUN | {"steps": 5})


def test_a_full_disk_is_one_sentence_and_loses_no_row(tmp_path):
    folder = WorkFolder(tmp_path, RUN)
    folder.append(ROW)
    with file_size_limit(100), pytest.raises(OutputError, match="free some space, then give the same command"):
        folder.append(PairRow("b", "1" * 64, 0.25, 0.3, [1.0, 0.0], ROW.blocks))
    assert list(WorkFolder(tmp_path, RUN).rows) == ["a"]


def test_damaged_pictures_are_left_out(tmp_path):
    folder = WorkFolder(tmp_path, RUN)
    folder.append(ROW)
    folder.save_view("a", {"image": np.zeros((2, 2, 3), np.uint8)})
    assert list(folder.views()) == ["a"]
    (tmp_path / "views" / "a.safetensors").write_bytes(b"damaged")
    assert folder.views() == {}


def test_a_last_row_without_its_line_break_is_a_row(tmp_path):
    WorkFolder(tmp_path, RUN).append(ROW)
    rows = tmp_path / "pairs.jsonl"
    rows.write_bytes(b"\xef\xbb\xbf" + rows.read_bytes().rstrip(b"\n"))
    folder = WorkFolder(tmp_path, RUN)
    folder.append(PairRow("b", "1" * 64, 0.25, 0.3, None, ROW.blocks))
    assert list(WorkFolder(tmp_path, RUN).rows) == ["a", "b"]


@pytest.mark.parametrize("damage", ['{"id": "b"}', "[]", "[" * 5000, '{"id": 1, "id": 2}'], ids=len)
def test_a_damaged_row_or_run_is_named(tmp_path, damage):
    WorkFolder(tmp_path, RUN).append(ROW)
    for name in ("pairs.jsonl", "run.json"):
        (tmp_path / name).write_text(f"{damage}\n")
        with pytest.raises(InputError, match=rf"{name}' is damaged|with other id"):
            WorkFolder(tmp_path, RUN)
