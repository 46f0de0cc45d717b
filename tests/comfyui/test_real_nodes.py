"""The nodes as ComfyUI loads and calls them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import comfyui_core as core
from comfyui_pack import FOLDER, pack

nodes = pack("nodes")
ALL = [
    nodes.AlignVid,
    nodes.AlignVidRecipe,
    nodes.AlignVidReport,
    nodes.AlignVidObserve,
    nodes.AlignVidObserved,
    nodes.AlignVidMiniature,
]
DEFAULTS = dict(
    preset="auto", strength="preset", gamma=1.35, follow=0.5, blocks="", steps="", streams="", branch="preset"
)


def test_comfyui_is_given_the_nodes() -> None:
    extension = asyncio.run(pack().comfy_entrypoint())
    assert asyncio.run(extension.get_node_list()) == ALL


@pytest.mark.parametrize("node", ALL, ids=lambda node: node.__name__)
def test_every_node_has_a_valid_schema_with_tooltips_and_a_help_page(node: Any) -> None:
    schema = node.define_schema()
    schema.validate()
    assert schema.description and all(item.tooltip for item in schema.inputs)
    for page in (FOLDER / "web" / "docs" / f"{schema.node_id}.md", FOLDER / "web" / "docs" / schema.node_id / "zh.md"):
        assert page.read_text(encoding="utf-8").startswith(f"# {schema.display_name}")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_widget_has_words_in_both_languages(language: str) -> None:
    words = json.loads((FOLDER / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert list(words) == [node.define_schema().node_id for node in ALL]
    for node in ALL:
        schema = node.define_schema()
        assert list(words[schema.node_id]["inputs"]) == [item.id for item in schema.inputs]
        assert list(words[schema.node_id]["outputs"]) == [str(index) for index in range(len(schema.outputs))]
        if language == "en":  # as the node itself says them
            said = [*words[schema.node_id]["inputs"].values(), *words[schema.node_id]["outputs"].values()]
            assert [item["tooltip"] for item in said] == [item.tooltip for item in (*schema.inputs, *schema.outputs)]
            assert words[schema.node_id]["description"] == schema.description


@pytest.mark.parametrize(
    ("widgets", "message"),
    [
        ({"strength": "gamma", "gamma": 0.0}, "gamma"),
        ({"strength": "gamma", "gamma": -1.0}, "gamma"),
        ({"strength": "gamma", "gamma": float("nan")}, "gamma"),
        ({"strength": "gamma", "gamma": float("inf")}, "gamma"),
        ({"blocks": "7-2"}, "runs backwards"),
        ({"blocks": "{"}, "cannot be read"),
        ({"steps": "early"}, "not a step window"),
        ({"strength": "follow", "follow": 2.0}, "follow must be a number"),
        ({"strength": "much"}, "strength 'much' is unknown"),
        ({"branch": "all"}, "branch 'all' is unknown"),
        ({"steps": "0.5-0.2"}, "contains no step"),
        ({"streams": "cross.text=x"}, "no power of gamma"),
    ],
)
def test_bad_widgets_are_refused_in_one_sentence_before_anything_runs(widgets: dict[str, Any], message: str) -> None:
    problem = nodes.AlignVid.validate_inputs(
        **{
            name: widgets.get(name, DEFAULTS[name])
            for name in ("strength", "gamma", "follow", "blocks", "steps", "streams", "branch")
        }
    )
    assert isinstance(problem, str) and message in problem and "\n" not in problem and "Traceback" not in problem


def test_good_widgets_pass() -> None:
    assert nodes.AlignVid.validate_inputs() is True
    assert (
        nodes.AlignVid.validate_inputs(strength="gamma", gamma=1.5, blocks="0,2-7", steps="noise>0.9", streams="text")
        is True
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"modulation": {"kind": "scalar", "gamma": NaN}}', '{"blocks": "all"}'])
def test_a_text_that_is_no_recipe_is_refused(text: str) -> None:
    problem = nodes.AlignVidRecipe.validate_inputs(text=text)
    assert isinstance(problem, str) and "\n" not in problem


def test_a_recipe_goes_from_node_to_node_and_back_from_its_text() -> None:
    recipe, text = nodes.AlignVidRecipe.execute("wan2.1-i2v-14b:released").result
    assert nodes.AlignVidRecipe.execute("generic:generic", text).result[0] == recipe
    changed = text.replace('"0,2-7,10-20,25-32,37-38"', '"all"')
    given, _ = nodes.AlignVidRecipe.execute("generic:generic", changed).result
    model, summary = nodes.AlignVid.execute(core.wan(), recipe=given, **DEFAULTS).result
    assert "blocks 0-3 of `blocks`" in summary and "noise level > 0.9" in summary
    core.sampled(model)
    latent = {"samples": 1}
    passed, words, data = nodes.AlignVidReport.execute(model, latent).result
    assert passed is latent and "cross.text x1.82" in words and json.loads(data)["run"]["acted"] > 0


def test_an_error_of_the_model_is_the_nodes_own_sentence() -> None:
    with pytest.raises(ValueError, match=r"Block 9 of `blocks` does not exist"):
        nodes.AlignVid.execute(core.wan(), **{**DEFAULTS, "blocks": "9"})
    with pytest.raises(ValueError, match="no AlignVid node"):
        nodes.AlignVidReport.execute(core.wan(), None)


def test_the_preset_is_found_from_the_model() -> None:
    config = core.wan_config(layers=40, num_heads=40, dim=240)
    config.unet_config["dim"] = 240
    big = core.patcher_of(config.get_model({}, device="cpu"))
    big.model.diffusion_model.dim = 5120  # all that the fingerprint reads of the width
    assert "wan2.1-i2v-14b:released" in nodes.AlignVid.execute(big, **DEFAULTS).result[1]
    assert "generic:generic" in nodes.AlignVid.execute(core.wan(), **DEFAULTS).result[1]


def test_the_pack_loads_fast_and_without_diffusers() -> None:
    """Beside a ComfyUI that is running: torch and its nodes' interface are there already."""
    script = (
        "import comfyui_core, comfy_api.latest, time, sys\n"
        "from comfyui_pack import pack\n"
        "before = time.perf_counter(); pack('nodes'); took = time.perf_counter() - before\n"
        "print(took, any(name.partition('.')[0] == 'diffusers' for name in sys.modules))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    took, has_diffusers = done.stdout.split()[-2:]
    assert has_diffusers == "False"
    assert float(took) < 5.0  # on a loaded machine; docs/lab-log.md has the time of an idle one
