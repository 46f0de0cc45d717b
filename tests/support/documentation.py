"""The pages that users read: their blocks of code with what is said of each, their commands, links and headings."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / name for name in ("comfyui/README.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(r"^(?:<!-- ([^\n]*?) -->\n)?```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMANDS = ("alignvid", ".venv/bin/alignvid", "make", "pip", "python", "pytest", "vllm")


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comment right above it, which says why it cannot be run as it stands."""

    page: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_beyond_this_machine(self) -> bool:
        return self.mark in ("needs a download", "needs a GPU")

    @property
    def runner(self) -> str:
        """The test that runs it, where another one than that of all blocks does."""
        return self.mark.removeprefix("run by ") if self.mark.startswith("run by ") else ""

    def commands(self) -> list[list[str]]:
        """Its lines as words of a shell, without what follows a pipe or "&&"; none where it holds no commands."""
        joined = self.text.replace("\\\n", " ").splitlines()
        lines = [line for line in map(str.strip, joined) if line and not line.startswith("#")]
        if not all(line.split()[0] in _COMMANDS for line in lines):
            return []
        return [shlex.split(line, comments=True) for line in lines]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        mark, language, _, code = match.groups()
        found.append(Block(page, text[: match.start()].count("\n") + 1, mark or "", language, code))
    return found


def all_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def without_code(text: str) -> str:
    """The page without its blocks and spans of code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def links_of(page: Path) -> list[str]:
    """Where its links and pictures lead, those to the web left out."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def anchors_of(page: Path) -> set[str]:
    """Its headings as a code host makes addresses of them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(slug if slug not in found else f"{slug}-{found[slug]}")
        found[slug] = found.get(slug, 0) + 1
    return names
