"""Parts that need more than torch: what is missing, in one sentence with the line that installs it.

A room that needs an extra asks for it in its `__init__`, before any of its files is imported.
"""

from __future__ import annotations

from importlib.util import find_spec

from alignvid.errors import MissingExtra


def require(extra: str, what: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported; nothing is imported.

    Args:
        extra: its name in pyproject.toml.
        what: what needs them, as the subject of a sentence: "Generating".
        modules: top-level names to import.

    Raises: MissingExtra naming the modules that are not installed.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        raise MissingExtra(needs(extra, what, *missing))


def needs(extra: str, what: str, *missing: str) -> str:
    """The sentence for modules that are not installed."""
    are = "is" if len(missing) == 1 else "are"
    names = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
    return f'{what} needs {names}, which {are} not installed; type: pip install "alignvid[{extra}]".'
