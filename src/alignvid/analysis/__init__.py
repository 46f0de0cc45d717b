"""Look, never touch: what attention does in a run. `alignvid.observe` records it, `alignvid.Trace` holds it.

This file imports no torch, so that a trace can be read where it is not installed.
"""

from alignvid.extras import require

require("observe", "Observing attention", "numpy", "safetensors")
