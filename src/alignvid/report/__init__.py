"""For people: the page that plays videos side by side, the page on attention, tables and plots of scores,
and the report of a benchmark.

This file imports no torch, so that scores and reports are made without it.
"""

from alignvid.extras import require

require("generate", "A page", "jinja2", "numpy", "PIL")
