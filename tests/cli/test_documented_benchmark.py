"""docs/benchmark.md: its first block is what a newcomer types."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
VERBS = ["run", "judge", "measure", "score", "report", "audit"]


def commands() -> list[list[str]]:
    block = PAGE.split("```")[1]
    return [shlex.split(line, comments=True)[1:] for line in block.strip().splitlines()]


def test_every_verb_has_a_heading_and_a_command_in_the_order_of_their_use():
    headings = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert [heading.lower() for heading in headings if heading.lower() in VERBS] == VERBS
    assert [command[1] for command in commands()] == VERBS


@pytest.mark.slow
def test_the_commands_run_one_after_the_other_as_written(alignvid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in commands():
        quick = ["1" if word == "24" else word for word in command]  # of the 24 samples, one
        code, _, err = alignvid(*quick)
        assert code == 0, err
    left = [
        "answers.jsonl",
        "metrics.jsonl",
        "scores.md",
        "scores.csv",
        "scores.json",
        "report/index.html",
        "audit.html",
    ]
    assert [name for name in left if not (tmp_path / "run" / name).exists()] == []
