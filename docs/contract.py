"""The table "the contract" of docs/compatibility.md, read from the tests that hold it.

A test that holds a line of it carries `@pytest.mark.contract(item, done=…, guaranteed=…, refused=…)`; tests with the
same deed are one line. So a line without a test cannot be written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
ITEMS = {
    "state": "State belongs to the call",
    "step": "Step and pass come from what the forward is given",
    "batch": "The batch says its own layout",
    "acted": "Acted means acted",
    "hooks": "Other people's hooks come and go",
    "copies": "Copies, pickles, memory",
    "graphs": "Compiled code sees sizes as sizes",
    "caches": "External caches forget at edges",
    "composition": "Several modulations in one recipe",
}
"""Properties in order, by the word that tests use."""
HEAD = """
## The contract

What an attachment guarantees when others touch the same model. Each line is held by the tests that it counts; they run
on real classes of diffusers, made tiny, in the ordinary suite unless marked slow. "Refused" is what cannot be exact,
and is said in one sentence at once.

| property | what was done to the model | guaranteed | refused, or said | tests |
|---|---|---|---|---|"""


@dataclass
class Line:
    """What the tests of one deed hold."""

    guaranteed: str = ""
    refused: str = ""
    tests: list[str] = field(default_factory=list)


def contract_lines() -> list[str]:
    """The table, as Markdown.

    Raises: ValueError if a test names no known property, or a property has no test.
    """
    lines: dict[tuple[str, str], Line] = {}
    for name, item, done, guaranteed, refused in _marked():
        if item not in ITEMS:
            raise ValueError(f"{name} is marked for {item!r}; choose from {', '.join(ITEMS)}.")
        line = lines.setdefault((item, done), Line())
        line.guaranteed, line.refused = line.guaranteed or guaranteed, line.refused or refused
        line.tests.append(name)
    if missing := set(ITEMS) - {item for item, _ in lines}:
        raise ValueError(f"No test holds {', '.join(sorted(missing))}.")
    order = list(ITEMS)
    ordered = sorted(lines.items(), key=lambda pair: order.index(pair[0][0]))
    rows = [
        f"| {ITEMS[item]} | {done} | {line.guaranteed} | {line.refused} | {len(line.tests)} |"
        for (item, done), line in ordered
    ]
    return [HEAD, *rows]


def _marked() -> Iterator[tuple[str, str, str, str, str]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.contract":
                        words = {word.arg: ast.literal_eval(word.value) for word in mark.keywords}
                        yield (
                            node.name,
                            ast.literal_eval(mark.args[0]),
                            words["done"],
                            words.get("guaranteed", ""),
                            words.get("refused", ""),
                        )
