"""AlignVid for ComfyUI: open video and picture models follow their prompt better, by one node before the sampler."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"
"""Where ComfyUI finds the nodes' help pages."""


async def comfy_entrypoint() -> Any:
    """The extension that ComfyUI loads."""
    from .nodes import Extension

    return Extension()
