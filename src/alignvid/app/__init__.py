"""The page `alignvid app`: a form over the same GenerationSpec as the command, with its runs on disk.

This file and what it imports load no model library: the page answers while those are read in the background.
"""

from alignvid.extras import require

require("app", "The page", "gradio", "jinja2", "numpy", "PIL", "av", "matplotlib")

from alignvid.app.door import Door
from alignvid.app.judging import JudgeChoice
from alignvid.app.server import Server, serve

__all__ = ["Door", "JudgeChoice", "Server", "serve"]
