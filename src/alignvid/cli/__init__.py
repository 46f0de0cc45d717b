"""The command line: `alignvid VERB`. It parses and prints; what it prints is computed elsewhere."""

from alignvid.extras import require

require("generate", "The command line", "click", "rich")

from alignvid.cli.main import main

__all__ = ["main"]
