"""A real server on loopback, from the checkout that COMFYUI names: the API, the example workflows, bad input."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chromium import CHROMIUM, FLAGS, needs_chromium
from comfyui_pack import FOLDER
from comfyui_server import Server, running

CHECKOUT = os.environ.get("ALIGNVID_COMFYUI", "core")
pytestmark = pytest.mark.skipif(CHECKOUT == "core", reason="make test-comfyui COMFYUI=path of a checkout")
EXAMPLES = Path(__file__).parents[2] / "examples"
WORKFLOWS = sorted((FOLDER / "example_workflows").glob("*.json"))
PROMPT = "add a green circle at the top left"
DEFAULTS = {
    "preset": "auto",
    "strength": "preset",
    "gamma": 1.35,
    "follow": 0.5,
    **dict.fromkeys(("blocks", "steps", "streams"), ""),
    "branch": "preset",
    "measure": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(CHECKOUT), tmp_path_factory.mktemp("comfyui") / "base") as found:
        shutil.copy(EXAMPLES / "scene-1.png", found.base / "input" / "scene-1.png")
        yield found


def graph(**widgets: Any) -> dict[str, Any]:
    """The miniature's graph, as the API takes it; PNG in place of WEBP, to compare frames byte by byte."""
    return {
        "1": {"class_type": "AlignVidMiniature", "inputs": {}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "scene-1.png"}},
        "3": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["1", 1], "text": PROMPT},
        },
        "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "5": {"class_type": "CLIPVisionEncode", "inputs": {"clip_vision": ["1", 2], "image": ["2", 0], "crop": "none"}},
        "6": {
            "class_type": "WanImageToVideo",
            "inputs": {
                "positive": ["3", 0],
                "negative": ["4", 0],
                "vae": ["1", 3],
                "clip_vision_output": ["5", 0],
                "start_image": ["2", 0],
                "width": 80,
                "height": 80,
                "length": 9,
                "batch_size": 1,
            },
        },
        "7": {"class_type": "AlignVid", "inputs": {"model": ["1", 0], **DEFAULTS, **widgets}},
        "8": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["7", 0] if widgets.get("preset") != "none" else ["1", 0],
                "positive": ["6", 0],
                "negative": ["6", 1],
                "latent_image": ["6", 2],
                "seed": 0,
                "steps": 10,
                "cfg": 1.0,
                "sampler_name": "uni_pc",
                "scheduler": "simple",
                "denoise": 1.0,
            },
        },
        "9": {"class_type": "AlignVidReport", "inputs": {"model": ["7", 0], "after": ["8", 0]}},
        "10": {"class_type": "VAEDecode", "inputs": {"samples": ["9", 0], "vae": ["1", 3]}},
        "11": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "clip"}},
    }


def frames(server: Server, done: dict[str, Any]) -> list[bytes]:
    from PIL import Image

    assert done["status"]["status_str"] == "success", done["status"]
    images = done["outputs"]["11"]["images"]
    return [Image.open(server.base / "output" / image["filename"]).tobytes() for image in images]


def test_the_graph_runs_and_reports_what_acted_each_time_that_it_is_queued(server: Server) -> None:
    first = server.run(graph())
    assert "acted" in json.dumps(first["outputs"]["9"]).lower() and "60 times" in json.dumps(first["outputs"]["9"])
    again = graph()
    again["8"]["inputs"]["seed"] = 1
    second = server.run(again)
    assert "60 times" in json.dumps(second["outputs"]["9"])
    assert len(frames(server, first)) == 9 and frames(server, first) != frames(server, second)


def test_a_neutral_gain_gives_the_frames_without_the_node_byte_by_byte(server: Server) -> None:
    neutral = graph(strength="gamma", gamma=1.0)
    plain = graph()
    plain["8"]["inputs"]["model"], plain["10"]["inputs"]["samples"] = ["1", 0], ["8", 0]
    del plain["7"], plain["9"]
    acted = graph(strength="gamma", gamma=1.5)
    expected = frames(server, server.run(plain))
    assert frames(server, server.run(neutral)) == expected
    assert frames(server, server.run(acted)) != expected


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"blocks": "7-2"}, "runs backwards"),
        ({"strength": "gamma", "gamma": 0.0}, "gamma"),
        ({"strength": "gamma", "gamma": float("nan")}, ""),
        ({"steps": "early"}, "is not a step window"),
    ],
)
def test_bad_widgets_are_refused_at_validation_with_alignvids_sentence(
    server: Server, widgets: dict[str, Any], message: str
) -> None:
    status, answer = server.post(graph(**widgets))
    assert status == 400 and message in json.dumps(answer, ensure_ascii=False)


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"blocks": "9"}, "Block 9 of `blocks` does not exist"),
        ({"preset": "framepack:released"}, "for the family framepack"),
    ],
)
def test_what_does_not_fit_the_model_is_the_nodes_own_error(
    server: Server, widgets: dict[str, Any], message: str
) -> None:
    done = server.run(graph(**widgets))
    assert done["status"]["status_str"] == "error"
    problem = next(item for kind, item in done["status"]["messages"] if kind == "execution_error")
    assert problem["node_type"] == "AlignVid" and message in problem["exception_message"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_has_no_unknown_node_and_its_slots_and_widgets_are_comfyuis(
    server: Server, path: Path
) -> None:
    known = server.get("/object_info")
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":  # of the page itself
            continue
        said = known[node["type"]]
        inputs = {name: spec for kind in ("required", "optional") for name, spec in said["input"].get(kind, {}).items()}
        for item in node["inputs"]:
            assert inputs[item["name"]][0] == item["type"] or item["type"] == "*"
        outputs = [item["type"] for item in node["outputs"]]
        known_outputs = [str(kind) for kind in said["output"]]
        assert outputs == known_outputs[: len(outputs)] and (
            outputs == known_outputs or node["type"].startswith("Save")
        )
        slots = {item["name"] for item in node["inputs"]}
        widgets = [name for name in inputs if name not in slots and isinstance(inputs[name][0], list | str)]
        extra = sum(bool(inputs[name][1].get("control_after_generate")) for name in widgets if len(inputs[name]) > 1)
        if node["type"] not in ("LoadImage", "SaveAnimatedWEBP"):
            assert len(node["widgets_values"]) == len(widgets) + extra, (node["type"], widgets)


@pytest.mark.browser
@needs_chromium
def test_comfyuis_page_draws_every_example_workflow_without_an_unknown_node(server: Server, tmp_path: Path) -> None:
    """ALIGNVID_SCREENSHOTS=folder keeps the pictures, for the template browser and the pack's README."""
    from playwright.sync_api import sync_playwright

    folder = Path(os.environ.get("ALIGNVID_SCREENSHOTS", tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 2400, "height": 1150})
        page.goto(server.url, timeout=240_000)
        page.wait_for_function("() => !!(window.app && window.app.loadGraphData && window.app.graph)", timeout=240_000)
        page.add_style_tag(content=".p-toast, .minimap-main-container { display: none !important; }")
        page.evaluate("() => { app.canvas.low_quality_zoom_threshold = 0; }")
        for path in WORKFLOWS:
            workflow = json.loads(path.read_text(encoding="utf-8"))
            page.evaluate("async (workflow) => await app.loadGraphData(workflow)", workflow)
            unknown = page.evaluate(
                "() => app.graph._nodes.map((node) => node.type)"
                ".filter((type) => !window.LiteGraph.registered_node_types[type])"
            )
            assert not unknown and page.evaluate("() => app.graph._nodes.length") == len(workflow["nodes"])
            page.keyboard.press("Escape")
            page.keyboard.press(".")  # the whole graph in view
            page.wait_for_timeout(1500)
            picture = folder / f"{path.stem}.jpg"
            page.screenshot(path=picture, type="jpeg", quality=60)
            assert picture.stat().st_size > 20_000
        browser.close()
