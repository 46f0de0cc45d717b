"""README and docs: Python runs or is type-checked, commands exist, no link is dead, and words are kept."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from PIL import Image

import alignvid
from alignvid.cli.main import cli
from documentation import PAGES, ROOT, Block, all_blocks, anchors_of, blocks_of, links_of, without_code

PYTHON = all_blocks("python")
RUN = sorted({block.page for block in PYTHON if not block.mark})
COMMANDS = [block for block in all_blocks("", "bash", "sh") if block.commands()]
ASSUMED = {"pipe": "Any", "image": "Any", "prompt": "str", "judge": "Any", "wan_i2v": "Any", "picture": "Any"}
"""What a block may take for granted: a pipeline, a picture, a prompt, and `import alignvid`."""
SMALL = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 3, "guidance_scale": 1.0}

OTHERWISE = ("with names of yours", "runs until it is stopped")
"""Why commands are not run as they stand; they must exist."""

NOT_SAID = {
    r"\blayers? of the transformer\b": "block",
    r"\btime ?step window\b|\bstep range\b": "step window",
    r"\b(scale|scaling) factor\b|\bmultiplier\b": "gain",
    r"\btoken group\b|\bmodality\b": "stream",
    r"\blayer (set|list)\b|\bblock list\b": "block set",
    r"(?<!colour )\bprofile\b": "preset",
    r"(?<!cannot )\b(tell|tells|told)\b": "say, distinguish",
    r"\bsomebody\b|\bsomebody else\b": "another, people",
    r"\bof one's own\b|\bof its own accord\b": "its own",
    r"\bgoes on\b|\bgo on\b": "resume",
    r"\bshall\b": "must",
}
"""What docs/concepts.md and the style have another word for."""
MAY_SAY = {"docs/lab-log.md", "docs/compare.md", "docs/faq.md", "docs/miniature.md"}
"""Pages that quote other people's words, or are a dated record."""


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_mark_is_one_that_means_something():
    wrong = [
        block.name
        for block in all_blocks("python", "", "bash", "sh")
        if block.mark and not (block.is_beyond_this_machine or block.runner or block.mark in OTHERWISE)
    ]
    assert wrong == []
    assert [block.name for block in PYTHON if block.mark in OTHERWISE] == []


def test_every_block_is_one_on_the_site_too():
    """Markdown for Python wants what follows the language as title="…"; else all up to the next fence is lost."""
    opening = re.compile(r'^```\w*( title="[^"]+")?$')
    fences = [
        line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("```")
    ]
    assert [line for line in fences if not opening.match(line)] == []


@pytest.mark.parametrize("block", [block for block in PYTHON if block.runner], ids=lambda block: block.name)
def test_a_block_that_another_test_runs_is_named_there(block):
    assert block.page.name in (ROOT / block.runner).read_text(encoding="utf-8")


def slow_or_not(page: Path) -> object:
    """Tutorials repeat what other pages show."""
    return pytest.param(page, marks=pytest.mark.slow if "tutorials" in page.parts else (), id=page_id(page))


@pytest.mark.parametrize("page", [slow_or_not(page) for page in RUN])
def test_the_python_of_a_page_runs_as_it_stands(page, monkeypatch, tmp_path):
    """On the miniature, at its size; one block after the other."""
    from diffusers import WanImageToVideoPipeline

    from alignvid.miniature import load_pipeline

    call = WanImageToVideoPipeline.__call__
    monkeypatch.setattr(
        WanImageToVideoPipeline, "__call__", lambda self, *args, **more: call(self, *args, **SMALL | more)
    )
    monkeypatch.chdir(tmp_path)
    image = Image.open(ROOT / "examples" / "scene-1.png").convert("RGB")
    image.save(tmp_path / "cat.png")
    names = {
        "alignvid": alignvid,
        "pipe": load_pipeline(),
        "image": image,
        "prompt": "add a green circle at the top left",
    }
    ran = 0
    for block in blocks_of(page):
        if block.language == "python" and not block.mark:
            exec(compile(block.text, block.name, "exec"), names)
            ran += 1
    assert ran > 0


def typed(block: Block) -> str:
    """The block with the names that it takes for granted, so that a type checker knows them."""
    assigned = {node.id for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Name) and is_set(node)}
    given = [f"{name}: {kind}" for name, kind in ASSUMED.items() if name not in assigned]
    return "\n".join(["from typing import Any", "import alignvid", *given, "", block.text])


def is_set(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def test_every_block_that_needs_a_download_compiles_and_uses_alignvid():
    beyond = [block for block in PYTHON if block.is_beyond_this_machine]
    assert len(beyond) > 50
    for block in beyond:
        compile(typed(block), block.name, "exec")
        assert "alignvid." in block.text or "load_dataset(" in block.text, block.name


LEFT_OPEN = re.compile(
    r'in function "(export_to_video|__call__|__getitem__)"|"DiffusionPipeline" is not callable|"datasets" could not'
)
"""What is said of diffusers' own annotations, and a package that one block says to install."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_block_that_needs_a_download_is_typed(tmp_path):
    """Names and what alignvid is given must be right, not what diffusers' annotations leave open: its result may be a
    tuple or a tensor, which has no `.frames`. Some pages begin with a pipeline that another page loads.
    """
    for number, block in enumerate(block for block in PYTHON if block.is_beyond_this_machine):
        (tmp_path / f"block_{number}.py").write_text(f"# {block.name}\n{typed(block)}", encoding="utf-8")
    off = ("AttributeAccessIssue", "PrivateImportUsage", "UnboundVariable", "OptionalMemberAccess", "UnusedExpression")
    settings = {"include": ["."], **{f"report{rule}": False for rule in off}}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 50
    wrong = [(Path(said["file"]).read_text().splitlines()[0], said["message"]) for said in report["generalDiagnostics"]]
    assert [row for row in wrong if not LEFT_OPEN.search(row[1])] == []


def options_of(command: click.Command) -> set[str]:
    return {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, and what follows it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def trouble_with(words: list[str]) -> str | None:
    """Why a command cannot be typed."""
    program, arguments = words[0].rpartition("/")[2], words[1:]
    if program == "alignvid":
        command, rest = found(arguments)
        if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            return f"no command {rest[0]!r}"
        if unknown := {word for word in rest if re.match(r"--[a-z]", word)} - options_of(command):
            return f"no option {', '.join(sorted(unknown))}"
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        missing = {word for word in arguments if "=" not in word} - targets
        return f"no target {', '.join(sorted(missing))}" if missing else None
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = {name for word in arguments for part in re.findall(r"\[(.*?)\]", word) for name in part.split(",")}
        return f"no extra {', '.join(sorted(named - set(extras)))}" if named - set(extras) else None
    if program == "python" and arguments[0] == "-m":
        return None if arguments[1] in ("venv", "pip") or find_spec(arguments[1]) else f"no module {arguments[1]}"
    if program == "python":
        return None if (ROOT / arguments[0]).exists() else f"no file {arguments[0]}"
    return None


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_every_command_of_a_block_can_be_typed(block):
    assert [(words, why) for words in block.commands() if (why := trouble_with(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_in_a_sentence_exists(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`((?:alignvid|make) [a-z][^`]*)`", text)
    wrong = [(span, why) for span in spans if (why := trouble_with(re.split(r"\s+", span.replace("…", ""))))]
    assert wrong == [] or page.name == "lab-log.md"  # the log may name what is gone


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_internal_link_is_dead(page):
    dead = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", [page for page in PAGES if page_id(page) not in MAY_SAY], ids=page_id)
def test_words_are_those_of_the_concepts(page):
    text = without_code(page.read_text(encoding="utf-8"))
    said = {found[0]: word for wrong, word in NOT_SAID.items() if (found := re.search(wrong, text, re.IGNORECASE))}
    assert said == {}, f"{page_id(page)}: {said}"


def test_every_word_that_is_defined_is_used_elsewhere():
    concepts = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ,]+) \| ", concepts.partition("## The idea")[0], re.MULTILINE)
    defined = [word.strip() for row in rows for word in row.split(",") if word.strip() != "word"]
    rest = " ".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "concepts.md")
    assert len(defined) >= 11
    assert [word for word in defined if word not in rest] == []
