"""The README: short, in order, and what it says to type works in a new environment."""

from __future__ import annotations

import re
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from documentation import ROOT, blocks_of

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
MOST_WORDS, MOST_LINES_OF_THE_MAP = 900, 30
ORDER = [
    "Install",
    "One complete script",
    "Turn it",
    "Is my model in?",
    "Try it without a GPU",
    "Elsewhere",
    "What it does not do",
    "The map",
    "Citation",
]


def test_it_has_at_most_nine_hundred_words():
    """Code and tables too; without comments, and without what is no word."""
    shown = re.sub(r"<!--.*?-->", "", TEXT, flags=re.DOTALL)
    assert len([word for word in shown.split() if re.search(r"\w", word)]) <= MOST_WORDS


def test_its_sections_are_in_the_order_of_a_newcomers_questions():
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == ORDER


def test_what_the_numbers_are_stands_right_below_the_picture():
    _, _, rest = TEXT.partition(".webp)")
    numbers, _, after = rest.partition("## Install")
    assert numbers.count("%") >= 3 and "built to neglect prompts" in numbers
    assert "Not tested on real weights here" in numbers and "%" not in after.partition("## One complete script")[0]


def test_the_map_is_short():
    block = next(block for block in blocks_of(README) if "src/alignvid/" in block.text and block.language == "")
    assert len(block.text.splitlines()) <= MOST_LINES_OF_THE_MAP


def test_its_script_is_that_of_the_scripts_page():
    (script,) = (block.text for block in blocks_of(README) if block.mark == "needs a download")
    page = (ROOT / "docs" / "scripts.md").read_text(encoding="utf-8")
    assert re.sub(r"  # which blocks.*", "", script) in page


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_lines_to_try_work_word_for_word_in_a_new_checkout(tmp_path):
    """`make demo`, which makes its own environment, and the line below it."""
    archive = tmp_path / "checkout.tar"
    subprocess.run(["git", "archive", "-o", str(archive), "HEAD"], cwd=ROOT, check=True)
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "checkout", filter="data")
    lines = [words for block in blocks_of(README) for words in block.commands() if not block.is_beyond_this_machine]
    tried = [words for words in lines if words[:2] == ["make", "demo"] or words[0] == ".venv/bin/alignvid"]
    assert len(tried) == 2
    for words in tried:
        done = subprocess.run(words, cwd=tmp_path / "checkout", capture_output=True, text=True, timeout=2800)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr[-2000:]}"
    assert (tmp_path / "checkout" / "demo" / "index.html").exists()
    assert (tmp_path / "checkout" / "out" / "index.html").exists()
    assert Path(tmp_path / "checkout" / "out" / "alignvid.mp4").stat().st_size > 0
