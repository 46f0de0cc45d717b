"""A real server on loopback, from the checkout that COMFYUI names: the API, the example workflows, bad input."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignvid.presets import load
from chromium import CHROMIUM, FLAGS, needs_chromium
from comfyui_graph import miniature_graph, without_alignvid
from comfyui_pack import FOLDER
from comfyui_server import Server, running

CHECKOUT = os.environ.get("ALIGNVID_COMFYUI", "core")
pytestmark = pytest.mark.skipif(CHECKOUT == "core", reason="make test-comfyui COMFYUI=path of a checkout")
EXAMPLES = Path(__file__).parents[2] / "examples"
WORKFLOWS = sorted((FOLDER / "example_workflows").glob("*.json"))
PROMPT = "add a green circle at the top left"


RAISES = """
class Raises:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "step": ("INT", {"default": 0})}}

    def run(self, model, step):
        def raising(executor, *args, **more):
            if args[1][0] <= args[5]["sample_sigmas"][step]:
                raise RuntimeError("raised by the test")
            return executor(*args, **more)

        clone = model.clone()
        clone.add_wrapper_with_key("apply_model", "raises", raising)
        return (clone,)


NODE_CLASS_MAPPINGS = {"TestRaises": Raises}
"""
"""A node behind which the model raises at a step."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui") / "base"
    with running(Path(CHECKOUT), base, {"raises.py": RAISES}) as found:
        for picture in EXAMPLES.glob("scene-*.png"):
            shutil.copy(picture, found.base / "input")
        yield found


def graph(**widgets: Any) -> dict[str, Any]:
    """PNG in place of WEBP, to compare frames byte by byte."""
    whole = miniature_graph("scene-1.png", PROMPT, seed=0)
    whole["7"]["inputs"].update({"measure": True, **widgets})
    return whole


def frames(server: Server, done: dict[str, Any], saved: str = "11") -> list[bytes]:
    from PIL import Image

    assert done["status"]["status_str"] == "success", done["status"]
    images = done["outputs"][saved]["images"]
    return [Image.open(server.base / "output" / image["filename"]).tobytes() for image in images]


def test_the_graph_runs_and_reports_what_acted_each_time_that_it_is_queued(server: Server) -> None:
    first = server.run(graph())
    assert "acted" in json.dumps(first["outputs"]["9"]).lower() and "60 times" in json.dumps(first["outputs"]["9"])
    again = graph()
    again["8"]["inputs"]["seed"] = 1
    second = server.run(again)
    assert "60 times" in json.dumps(second["outputs"]["9"])
    assert len(frames(server, first)) == 9 and frames(server, first) != frames(server, second)


def test_two_nodes_on_two_branches_of_one_graph_do_not_meet(server: Server) -> None:
    """Each branch as by itself: two AlignVid nodes, two samplers and two reports over one model."""
    one, other = graph(strength="gamma", gamma=1.5), graph(strength="gamma", gamma=2.5, blocks="0-2")
    alone = [frames(server, server.run(part)) for part in (one, other)]
    both, second = graph(strength="gamma", gamma=1.5), {}
    for key in ("7", "8", "9", "10", "11"):
        text = json.dumps(other[key])
        for own in ("7", "8", "9", "10"):
            text = text.replace(f'["{own}", 0]', f'["2{own}", 0]')
        second[f"2{key}"] = json.loads(text)
    done = server.run({**both, **second})
    assert [frames(server, done, saved) for saved in ("11", "211")] == alone and alone[0] != alone[1]
    assert "60 times" in json.dumps(done["outputs"]["9"]) and "30 times" in json.dumps(done["outputs"]["29"])


def test_a_pasted_recipe_acts_and_is_saved_in_what_is_saved(server: Server) -> None:
    from PIL import Image

    recipe = load("miniature:calibrated").recipe.override(gamma=1.25)
    text, whole = json.dumps(recipe.to_dict()), graph()
    whole["12"] = {"class_type": "AlignVidRecipe", "inputs": {"preset": "generic:generic", "text": text}}
    whole["7"]["inputs"]["recipe"] = ["12", 0]
    done = server.run(whole)
    assert "cross.text x1.25" in json.dumps(done["outputs"]["9"])
    frames(server, done)
    saved = Image.open(server.base / "output" / done["outputs"]["11"]["images"][0]["filename"])
    assert json.loads(saved.text["prompt"])["12"]["inputs"]["text"] == text


def test_an_interruption_in_the_middle_leaves_the_next_run_as_it_was(server: Server) -> None:
    expected = frames(server, server.run(graph()))
    long, again = graph(), graph()
    long["8"]["inputs"].update(seed=3, steps=400)
    _, answer = server.post(long)
    while not server.get("/queue")["queue_running"]:
        time.sleep(0.05)
    time.sleep(2.0)  # of some ten seconds
    server.send("/interrupt", {})
    stopped = server.finished(answer["prompt_id"])
    assert stopped["status"]["status_str"] == "error" and "execution_interrupted" in json.dumps(stopped["status"])
    again["11"]["inputs"]["filename_prefix"] = "again"  # the rest as before, which the server would not run anew
    again["8"]["inputs"]["scheduler"], again["5"]["inputs"]["crop"] = "normal", "center"
    server.run(again)
    assert frames(server, server.run(graph())) == expected


def test_an_error_in_the_middle_leaves_the_next_runs_and_their_counts_as_they_were(server: Server) -> None:
    """The MODEL that the failed run has used is the one that the server keeps for the next."""
    expected, broken, again = frames(server, server.run(graph())), graph(), graph()
    broken["30"] = {"class_type": "TestRaises", "inputs": {"model": ["7", 0], "step": 4}}
    broken["8"]["inputs"]["model"] = ["30", 0]
    for _ in range(2):
        done = server.run(broken)
        problem = next(item for kind, item in done["status"]["messages"] if kind == "execution_error")
        assert problem["node_type"] == "KSampler" and "raised by the test" in problem["exception_message"]
    again["8"]["inputs"]["seed"] = 11
    done = server.run(again)
    report = json.dumps(done["outputs"]["9"])
    assert "Run completed" in report and "in 10 of 10 forwards: 60 times" in report
    assert frames(server, done) != expected
    assert frames(server, server.run(graph())) == expected


def test_the_pages_languages_and_help_are_served(server: Server) -> None:
    known, words = server.get("/object_info"), server.get("/i18n")
    ours = [name for name in known if name.startswith("AlignVid")]
    assert len(ours) == 6
    for name in ours:
        assert words["en"]["nodeDefs"][name]["description"] != words["zh"]["nodeDefs"][name]["description"]
        for page in (f"{name}.md", f"{name}/zh.md"):
            assert server.text(f"/extensions/alignvid/docs/{page}").startswith("# AlignVid")


def test_a_link_of_another_type_is_refused_at_validation(server: Server) -> None:
    """As WanVideoWrapper's own MODEL type would be."""
    wrong = graph()
    wrong["7"]["inputs"]["model"] = ["1", 1]
    status, answer = server.post(wrong)
    assert status == 400 and "received_type(CLIP) mismatch input_type(MODEL)" in json.dumps(answer)


def test_a_neutral_gain_gives_the_frames_without_the_node_byte_by_byte(server: Server) -> None:
    neutral = graph(strength="gamma", gamma=1.0)
    plain = without_alignvid(graph())
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
            outputs == known_outputs or node["type"].startswith(("Save", "Preview"))
        )
        slots = {item["name"] for item in node["inputs"]}
        widgets = [name for name in inputs if name not in slots and isinstance(inputs[name][0], list | str)]
        extra = sum(bool(inputs[name][1].get("control_after_generate")) for name in widgets if len(inputs[name]) > 1)
        if node["type"] not in ("LoadImage", "SaveAnimatedWEBP"):
            assert len(node["widgets_values"]) == len(widgets) + extra, (node["type"], widgets)


FOLDERS = {
    "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders",
    "CLIPVisionLoader": "clip_vision",
    "VAELoader": "vae",
}


def with_names_of_models(server: Server) -> None:
    """Empty files under the names that the examples have, so that the page finds nothing missing."""
    shutil.copy(EXAMPLES / "scene-1.png", server.base / "input" / "example.png")
    for path in WORKFLOWS:
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if folder := FOLDERS.get(node["type"]):
                (server.base / "models" / folder).mkdir(exist_ok=True)
                (server.base / "models" / folder / node["widgets_values"][0]).touch()


PLACE = """() => {
  const bounds = app.graph._nodes.map((node) => node.getBounding()), { offset, scale } = app.canvas.ds
  const page = app.canvas.canvas.getBoundingClientRect()
  const side = (pick) => bounds.map(pick), margin = 16
  const x = Math.min(...side((b) => b[0])), y = Math.min(...side((b) => b[1]))
  const right = Math.max(...side((b) => b[0] + b[2])), bottom = Math.max(...side((b) => b[1] + b[3]))
  return {
    x: page.left + (x + offset[0]) * scale - margin, y: page.top + (y + offset[1]) * scale - margin,
    width: (right - x) * scale + 2 * margin, height: (bottom - y) * scale + 2 * margin,
  }
}"""
"""Where the graph lies on the page."""


REPORTED = """() => {
  const report = app.graph._nodes.find((node) => node.type === "AlignVidReport")
  return report.widgets.map((widget) => widget.value).join(" ")
}"""
"""What the report says on its node."""


@pytest.mark.browser
@needs_chromium
def test_comfyuis_page_draws_every_example_workflow_without_an_unknown_node(server: Server, tmp_path: Path) -> None:
    """ALIGNVID_SCREENSHOTS=folder keeps the pictures, for the template browser and the pack's README."""
    from playwright.sync_api import sync_playwright

    folder = Path(os.environ.get("ALIGNVID_SCREENSHOTS", tmp_path))
    with_names_of_models(server)
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
            if path.stem == "miniature":  # the one that can be run here
                ran = len(server.get("/history"))
                page.evaluate("async () => await app.queuePrompt(0)")
                while len(server.get("/history")) == ran:
                    page.wait_for_timeout(300)
                page.wait_for_function(f"() => ({REPORTED})().includes('Acted at step 0-9')")  # the socket is later
            page.keyboard.press("Escape")
            page.keyboard.press(".")  # the whole graph in view
            page.wait_for_timeout(1500)
            picture = folder / f"{path.stem}.jpg"
            page.screenshot(path=picture, type="jpeg", quality=70, clip=page.evaluate(PLACE))
            assert picture.stat().st_size > 20_000
        browser.close()
