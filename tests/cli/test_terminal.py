import os
import re
import shlex

import pytest

from alignvid.cli import terminal

ROWS = [
    ("baseline", "66.7 [33.3, 100.0]", "a remark that is long enough to be folded"),
    ("a-name-to-type", "1", "short"),
]
HEADINGS = ("variant", "accuracy %", "remark")


def printed(capsys, monkeypatch, columns):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal.print_table(HEADINGS, ROWS)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return [line.rstrip() for line in text.splitlines()]


def test_a_table_that_fits_is_plain_lines(capsys, monkeypatch):
    lines = printed(capsys, monkeypatch, 100)
    assert lines[1] == "baseline        66.7 [33.3, 100.0]  a remark that is long enough to be folded"


def test_in_a_narrow_terminal_only_the_last_column_is_folded(capsys, monkeypatch):
    lines = printed(capsys, monkeypatch, 60)
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("baseline        66.7 [33.3, 100.0]  a remark")
    assert any(line.startswith("a-name-to-type  1 ") for line in lines)


def test_in_a_narrower_one_each_row_is_a_block_and_no_cell_is_parted(capsys, monkeypatch):
    lines = printed(capsys, monkeypatch, 44)
    assert lines[:2] == ["baseline", "  accuracy % 66.7 [33.3, 100.0]"] and max(map(len, lines)) <= 44
    assert "a-name-to-type" in lines and "  accuracy % 1; remark short" in lines


def test_a_pipe_gets_plain_lines_whatever_the_width(capsys):
    terminal.print_table(HEADINGS, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("path", ["run", "a run", "it's", "$HOME", "-x"])
def test_a_next_line_can_be_split_as_a_shell_does(capsys, path):
    terminal.next_line("bench", "score", path)
    assert shlex.split(capsys.readouterr().out.removeprefix("Next: ")) == ["alignvid", "bench", "score", path]
