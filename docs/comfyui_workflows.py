"""The example workflows of the ComfyUI pack, from short descriptions: python docs/comfyui_workflows.py [--check].

A workflow of ComfyUI's page says of every node where it lies, its slots and its widgets. Here a node is one line; slots
and their types are in the table below, and a test compares them with what ComfyUI says of its nodes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "comfyui" / "example_workflows"

KINDS: Mapping[str, tuple[str, str]] = {
    "AlignVid": ("model:MODEL recipe:ALIGNVID_RECIPE", "MODEL summary:STRING"),
    "AlignVidReport": ("model:MODEL after:*", "after:* report:STRING data:STRING"),
    "AlignVidMiniature": ("", "MODEL CLIP CLIP_VISION VAE"),
    "LoadImage": ("", "IMAGE MASK"),
    "CLIPTextEncode": ("clip:CLIP", "CONDITIONING"),
    "CLIPVisionEncode": ("clip_vision:CLIP_VISION image:IMAGE", "CLIP_VISION_OUTPUT"),
    "WanImageToVideo": (
        "positive:CONDITIONING negative:CONDITIONING vae:VAE clip_vision_output:CLIP_VISION_OUTPUT start_image:IMAGE",
        "positive:CONDITIONING negative:CONDITIONING latent:LATENT",
    ),
    "KSampler": ("model:MODEL positive:CONDITIONING negative:CONDITIONING latent_image:LATENT", "LATENT"),
    "KSamplerAdvanced": ("model:MODEL positive:CONDITIONING negative:CONDITIONING latent_image:LATENT", "LATENT"),
    "VAEDecode": ("samples:LATENT vae:VAE", "IMAGE"),
    "VAEEncode": ("pixels:IMAGE vae:VAE", "LATENT"),
    "SaveImage": ("images:IMAGE", ""),
    "PreviewImage": ("images:IMAGE", ""),
    "SaveAnimatedWEBP": ("images:IMAGE", ""),
    "UNETLoader": ("", "MODEL"),
    "CLIPLoader": ("", "CLIP"),
    "VAELoader": ("", "VAE"),
    "CLIPVisionLoader": ("", "CLIP_VISION"),
    "ModelSamplingSD3": ("model:MODEL", "MODEL"),
    "ModelSamplingAuraFlow": ("model:MODEL", "MODEL"),
    "TextEncodeQwenImageEdit": ("clip:CLIP vae:VAE image:IMAGE", "CONDITIONING"),
}
"""Slots of each kind of node: what comes in (name:TYPE), and what goes out (TYPE, or name:TYPE)."""

_STEP_X, _STEP_Y, _WIDTH, _LINE = 400, 60, 320, 26
_ROOM = {
    "TextEncode": 80,
    "LoadImage": 200,
    "AlignVidReport": 220,
    "SaveAnimatedWEBP": 240,
    "SaveImage": 240,
    "PreviewImage": 280,
}
"""Height for what a node shows, a text or a picture, by a part of its kind's name."""
_PROMPT = "remove the yellow square"
_ALIGN = ["auto", "preset", 1.35, 0.5, "", "", "", "preset", True]
_ALIGN_HIGH_NOISE = ["auto", "preset", 1.35, 0.5, "", "noise>0.9", "", "preset", True]


@dataclass(frozen=True)
class Node:
    """One node: its kind, in which column it stands, its widgets, and from where its slots are fed."""

    kind: str
    column: int
    widgets: Sequence[Any] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    """By slot that comes in: the name of a node, with the number of its outgoing slot where it is not the first."""


def _slots(text: str) -> list[tuple[str, str]]:
    pairs = [item.partition(":") for item in text.split()]
    return [(name, kind or name) for name, _, kind in pairs]


def workflow(nodes: Mapping[str, Node], note: str) -> dict[str, Any]:
    """A workflow as ComfyUI's page saves it."""
    numbers = {name: number for number, name in enumerate(nodes, 1)}
    links: list[list[Any]] = []
    written, heights = [], {}
    for name, node in nodes.items():
        inputs = []
        for slot, (wanted, kind) in enumerate(_slots(KINDS[node.kind][0])):
            link = None
            if wanted in node.given:
                source, _, output = node.given[wanted].partition(".")
                link = len(links) + 1
                links.append([link, numbers[source], int(output or 0), numbers[name], slot, kind])
            inputs.append({"name": wanted, "type": kind, "link": link})
        slots = max(len(inputs), len(_slots(KINDS[node.kind][1])))
        height = (
            40 + _LINE * (slots + len(node.widgets)) + sum(room for part, room in _ROOM.items() if part in node.kind)
        )
        y = heights.get(node.column, 0)
        heights[node.column] = y + height + _STEP_Y
        written.append(
            {
                "id": numbers[name],
                "type": node.kind,
                "pos": [_STEP_X * node.column, y],
                "size": [_WIDTH, height],
                "flags": {},
                "order": numbers[name] - 1,
                "mode": 0,
                "inputs": inputs,
                "outputs": [{"name": out, "type": kind, "links": []} for out, kind in _slots(KINDS[node.kind][1])],
                "properties": {"Node name for S&R": node.kind},
                "widgets_values": list(node.widgets),
            }
        )
    for link, source, output, *_ in links:
        written[source - 1]["outputs"][output]["links"].append(link)
    notes = {
        "id": len(written) + 1,
        "type": "MarkdownNote",
        "pos": [0, -170],
        "size": [720, 110],
        "flags": {},
        "order": len(written),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [note],
    }
    return {
        "last_node_id": len(written) + 1,
        "last_link_id": len(links),
        "nodes": [*written, notes],
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _wan(prompt: str, size: tuple[int, int, int], *, vision: bool) -> dict[str, Node]:
    """Prompt, picture and latents, from `clip`, `vae` and, where the model has keys of its picture, `clip_vision`."""
    width, height, length = size
    given = {"positive": "positive", "negative": "negative", "vae": "vae", "start_image": "picture"}
    nodes = {
        "positive": Node("CLIPTextEncode", 1, [prompt], {"clip": "clip"}),
        "negative": Node("CLIPTextEncode", 1, [""], {"clip": "clip"}),
    }
    if vision:
        nodes["seen"] = Node("CLIPVisionEncode", 1, ["none"], {"clip_vision": "clip_vision", "image": "picture"})
        given["clip_vision_output"] = "seen"
    return nodes | {"video": Node("WanImageToVideo", 2, [width, height, length, 1], given)}


def _end(model: str, latent: str, *, vae: str = "vae", save: Node) -> dict[str, Node]:
    return {
        "report": Node("AlignVidReport", 5, [], {"model": model, "after": latent}),
        "pixels": Node("VAEDecode", 5, [], {"samples": "report", "vae": vae}),
        "save": Node(save.kind, 6, save.widgets, {"images": "pixels"}),
    }


def _conditions(source: str = "video") -> dict[str, str]:
    return {"positive": source, "negative": f"{source}.1", "latent_image": f"{source}.2"}


_WEBP = Node("SaveAnimatedWEBP", 6, ["alignvid", 16.0, False, 90, "default"])


def miniature() -> dict[str, Any]:
    """The embedded miniature: nothing to download."""
    nodes = {
        "model": Node("AlignVidMiniature", 0),
        "picture": Node("LoadImage", 0, ["scene-3.png", "image"]),
        **_wan(_PROMPT, (80, 80, 9), vision=True),
        "aligned": Node("AlignVid", 3, _ALIGN, {"model": "model"}),
        "sampler": Node(
            "KSampler",
            4,
            [0, "fixed", 10, 1.0, "uni_pc", "simple", 1.0],
            {"model": "aligned", **_conditions()},
        ),
        **_end("aligned", "sampler", save=_WEBP),
        "frames": Node("PreviewImage", 6, [], {"images": "pixels"}),
    }
    renamed = {"clip": "model.1", "clip_vision": "model.2", "vae": "model.3"}
    fed = {
        name: Node(
            node.kind,
            node.column,
            node.widgets,
            {slot: renamed.get(source, source) for slot, source in node.given.items()},
        )
        for name, node in nodes.items()
    }
    return workflow(
        fed,
        "**AlignVid's miniature**, without a download. Put `examples/scene-3.png` of alignvid into ComfyUI's `input` "
        "folder. Bypass the AlignVid node (Ctrl+B) to see the same seed without it.",
    )


def wan21() -> dict[str, Any]:
    """Wan 2.1 image-to-video, 14B."""
    nodes = {
        "model": Node("UNETLoader", 0, ["wan2.1_i2v_480p_14B_fp8_e4m3fn.safetensors", "default"]),
        "clip": Node("CLIPLoader", 0, ["umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan", "default"]),
        "clip_vision": Node("CLIPVisionLoader", 0, ["clip_vision_h.safetensors"]),
        "vae": Node("VAELoader", 0, ["wan_2.1_vae.safetensors"]),
        "picture": Node("LoadImage", 0, ["example.png", "image"]),
        **_wan("the cat puts on sunglasses", (832, 480, 81), vision=True),
        "aligned": Node("AlignVid", 3, _ALIGN, {"model": "model"}),
        "shifted": Node("ModelSamplingSD3", 3, [8.0], {"model": "aligned"}),
        "sampler": Node(
            "KSampler",
            4,
            [0, "fixed", 30, 5.0, "uni_pc", "simple", 1.0],
            {"model": "shifted", **_conditions()},
        ),
        **_end("shifted", "sampler", save=_WEBP),
    }
    return workflow(nodes, "**Wan 2.1 I2V 14B.** The preset *auto* finds `wan2.1-i2v-14b`: the paper's model.")


def wan22() -> dict[str, Any]:
    """Wan 2.2 image-to-video, both experts."""

    def sampler(noise: str, start: int, stop: int, leftover: str, given: Mapping[str, str]) -> Node:
        return Node(
            "KSamplerAdvanced", 4, [noise, 0, "fixed", 20, 3.5, "euler", "simple", start, stop, leftover], given
        )

    nodes = {
        "high": Node("UNETLoader", 0, ["wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors", "default"]),
        "low": Node("UNETLoader", 0, ["wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", "default"]),
        "clip": Node("CLIPLoader", 0, ["umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan", "default"]),
        "vae": Node("VAELoader", 0, ["wan_2.1_vae.safetensors"]),
        "picture": Node("LoadImage", 0, ["example.png", "image"]),
        **_wan("the cat puts on sunglasses", (832, 480, 81), vision=False),
        "aligned": Node("AlignVid", 3, _ALIGN_HIGH_NOISE, {"model": "high"}),
        "shifted": Node("ModelSamplingSD3", 3, [8.0], {"model": "aligned"}),
        "shifted low": Node("ModelSamplingSD3", 3, [8.0], {"model": "low"}),
        "first": sampler("enable", 0, 10, "enable", {"model": "shifted", **_conditions()}),
        "second": sampler(
            "disable", 10, 10000, "disable", {"model": "shifted low", **_conditions(), "latent_image": "report"}
        ),
        "report": Node("AlignVidReport", 5, [], {"model": "shifted", "after": "first"}),
        "pixels": Node("VAEDecode", 5, [], {"samples": "second", "vae": "vae"}),
        "save": Node("SaveAnimatedWEBP", 6, _WEBP.widgets, {"images": "pixels"}),
    }
    return workflow(
        nodes,
        "**Wan 2.2 I2V 14B, two experts.** Each sampler counts its own steps, so the window is one of noise levels: "
        "`noise>0.9` lies within the high-noise expert. For a wider one put an AlignVid node before each.",
    )


def qwen_image_edit() -> dict[str, Any]:
    """Qwen-Image-Edit."""
    words = {"clip": "clip", "vae": "vae", "image": "picture"}
    nodes = {
        "model": Node("UNETLoader", 0, ["qwen_image_edit_fp8_e4m3fn.safetensors", "default"]),
        "clip": Node("CLIPLoader", 0, ["qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image", "default"]),
        "vae": Node("VAELoader", 0, ["qwen_image_vae.safetensors"]),
        "picture": Node("LoadImage", 0, ["example.png", "image"]),
        "positive": Node("TextEncodeQwenImageEdit", 1, ["put sunglasses on the cat"], words),
        "negative": Node("TextEncodeQwenImageEdit", 1, [""], words),
        "latent": Node("VAEEncode", 2, [], {"pixels": "picture", "vae": "vae"}),
        "aligned": Node("AlignVid", 3, _ALIGN, {"model": "model"}),
        "shifted": Node("ModelSamplingAuraFlow", 3, [3.0], {"model": "aligned"}),
        "sampler": Node(
            "KSampler",
            4,
            [0, "fixed", 20, 2.5, "euler", "simple", 1.0],
            {"model": "shifted", "positive": "positive", "negative": "negative", "latent_image": "latent"},
        ),
        **_end("shifted", "sampler", save=Node("SaveImage", 6, ["alignvid"])),
    }
    return workflow(nodes, "**Qwen-Image-Edit.** No calibrated preset: *auto* takes `generic`. Raise gamma by hand.")


WORKFLOWS = {
    "miniature": miniature,
    "wan2.1_i2v": wan21,
    "wan2.2_i2v_two_experts": wan22,
    "qwen_image_edit": qwen_image_edit,
}


def main() -> int:
    """Write the files; with --check compare alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = []
    for name, make in WORKFLOWS.items():
        path, text = FOLDER / f"{name}.json", json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        if is_check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run python docs/comfyui_workflows.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
