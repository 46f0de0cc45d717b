"""Runs on disk: found by name alone, newest first, and only those that are whole."""

import pytest

from alignvid.app.runs import folder_of, is_id, new_id, newest_runs, run_named
from alignvid.errors import InputError


@pytest.mark.parametrize("name", ["", ".", "..", "../app", "20261129-163412-12ab/..", "20261129-163412-12AB", "a" * 20])
def test_nothing_but_a_run_s_name_reaches_the_disk(tmp_path, name):
    assert not is_id(name)
    with pytest.raises(InputError, match="There is no run"):
        folder_of(tmp_path, name)


def test_a_name_is_new_and_sorts_by_time():
    names = {new_id() for _ in range(20)}
    assert len(names) == 20 and all(map(is_id, names))


def test_a_folder_without_a_record_is_no_run(tmp_path):
    (tmp_path / new_id()).mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert newest_runs(tmp_path) == []
    with pytest.raises(InputError, match="cannot be read as a record"):
        run_named(tmp_path, next(path.name for path in tmp_path.iterdir() if path.is_dir()))
