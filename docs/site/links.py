"""A hook of mkdocs: links that lead out of docs/, which a code host follows, are words on the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page with words in place of such links."""
    docs = Path(config["docs_dir"]).resolve()
    here = (docs / page.file.src_uri).parent

    def word(link: re.Match[str]) -> str:
        is_inside = (here / link[2]).resolve().is_relative_to(docs)
        return link[0] if is_inside else link[1]

    return _LINK.sub(word, markdown)
