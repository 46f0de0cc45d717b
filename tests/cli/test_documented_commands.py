"""The commands of README and docs, run one after the other as they stand; `--limit` alone is made small.

Python that reads what they leave, as in pictures.md, runs after them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from documentation import PAGES, ROOT, Block, blocks_of

NOT_FOLLOWED = 3  # a loop that made all its attempts and said so
HERE = "tests/cli/test_documented_commands.py"


def runnable(block: Block) -> list[list[str]]:
    """The block's commands of alignvid; none where it is marked."""
    if block.language not in ("", "bash", "sh") or block.mark:
        return []
    return [words[1:] for words in block.commands() if words[0].endswith("alignvid")]


PAGES_TO_RUN = [page for page in PAGES if any(map(runnable, blocks_of(page)))]


def small(words: list[str]) -> list[str]:
    """One sample in place of many; one clip of a batch."""
    quick = list(words)
    for option, few in (("--limit", "1"), ("--batch", "1"), ("--count", "1")):
        if option in quick:
            quick[quick.index(option) + 1] = few
    return quick


def test_a_block_without_a_mark_names_nothing_that_is_not_there():
    for page in PAGES_TO_RUN:
        for block in blocks_of(page):
            words = [word for line in runnable(block) for word in line]
            assert not {"MODEL", "RUN", "FOLDER", "FILE", "DIR"} & set(words), block.name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES_TO_RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_as_they_stand(page: Path, alignvid, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.runner == HERE:
            exec(compile(block.text, block.name, "exec"), {})
        for words in runnable(block):
            code, _, err = alignvid(*small(words))
            assert code == 0 or (code == NOT_FOLLOWED and "--until-followed" in words), (words, err)
