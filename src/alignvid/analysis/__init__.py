"""Look, never touch: what attention does in a run. `alignvid.observe` records it, `alignvid.Trace` holds it.

This file imports nothing, so that a trace can be read where torch is not installed.
"""
