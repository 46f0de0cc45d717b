"""The miniature's graph of stock nodes, as ComfyUI's API takes it."""

from __future__ import annotations

from typing import Any

from alignvid.bench.comfyui.workflow import WIDGETS
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH

Graph = dict[str, dict[str, Any]]
SAMPLER, SAVED = "8", "11"
"""Numbers of the nodes that sample and that save the frames, as PNG."""


def miniature_graph(image: str, prompt: str, **how: Any) -> Graph:
    """The graph with an AlignVid node and its report. `how`: inputs of KSampler other than its own, such as `seed`."""
    size = {"width": WIDTH, "height": HEIGHT, "length": FRAMES, "batch_size": 1}
    wan = {"positive": ["3", 0], "negative": ["4", 0], "vae": ["1", 3], "clip_vision_output": ["5", 0]}
    sampler = {"model": ["7", 0], "positive": ["6", 0], "negative": ["6", 1], "latent_image": ["6", 2]}
    fixed = {"steps": 10, "cfg": 1.0, "sampler_name": "uni_pc", "scheduler": "simple", "denoise": 1.0}
    kinds = {
        "1": ("AlignVidMiniature", {}),
        "2": ("LoadImage", {"image": image}),
        "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": prompt}),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "5": ("CLIPVisionEncode", {"clip_vision": ["1", 2], "image": ["2", 0], "crop": "none"}),
        "6": ("WanImageToVideo", {**wan, "start_image": ["2", 0], **size}),
        "7": ("AlignVid", {"model": ["1", 0], **WIDGETS}),
        SAMPLER: ("KSampler", {**sampler, **fixed, **how}),
        "9": ("AlignVidReport", {"model": ["7", 0], "after": [SAMPLER, 0]}),
        "10": ("VAEDecode", {"samples": ["9", 0], "vae": ["1", 3]}),
        SAVED: ("SaveImage", {"images": ["10", 0], "filename_prefix": "clip"}),
    }
    return {key: {"class_type": kind, "inputs": dict(inputs)} for key, (kind, inputs) in kinds.items()}


def without_alignvid(graph: Graph) -> Graph:
    """The same graph with neither node."""
    graph[SAMPLER]["inputs"]["model"], graph["10"]["inputs"]["samples"] = ["1", 0], [SAMPLER, 0]
    return {key: node for key, node in graph.items() if node["class_type"] not in ("AlignVid", "AlignVidReport")}
