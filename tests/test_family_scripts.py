"""docs/scripts.md: a script for every family, whose pipeline, arguments and addresses are diffusers' own."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import diffusers
import pytest

from alignvid.models import families
from alignvid.models.evidence import model_table

ROOT = Path(__file__).parents[1]
SPEC = spec_from_file_location("family_scripts", ROOT / "docs" / "family_scripts.py")
page = module_from_spec(SPEC)
sys.modules[SPEC.name] = page  # its dataclass looks itself up
SPEC.loader.exec_module(page)


def call_of(script: str) -> set[str]:
    """Names of the arguments that a script gives its pipeline."""
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    (call,) = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "pipe")
    assert not call.args
    return {keyword.arg for keyword in call.keywords}


def test_every_family_has_one_of_a_pipeline_that_was_run():
    table = model_table(family for family in families().values() if family.pipelines)
    assert {*page.SCRIPTS, *page.PART_OF} == {facts.family for facts in table}
    run = {facts.pipeline: facts.family for facts in table if "runs" in facts.exercised}
    assert {name: run[script.pipeline] for name, script in page.SCRIPTS.items()} == {
        name: name for name in page.SCRIPTS
    }


@pytest.mark.parametrize("name", [name for name, script in page.SCRIPTS.items() if not script.is_modular])
def test_its_arguments_are_those_of_the_pipeline(name):
    script = page.SCRIPTS[name]
    parameters = inspect.signature(getattr(diffusers, script.pipeline).__call__).parameters
    given = call_of(page.script_of(script))
    assert given <= set(parameters)
    needed = {key for key, value in parameters.items() if value.default is inspect.Parameter.empty and key != "self"}
    assert needed - {"kwargs", "args"} <= given


@pytest.mark.parametrize("name", [name for name, script in page.SCRIPTS.items() if script.model != page.NO_ADDRESS])
def test_its_address_is_one_that_diffusers_names_for_it(name):
    script = page.SCRIPTS[name]
    folder = Path(inspect.getfile(getattr(diffusers, script.pipeline))).parent
    text = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    assert re.search(rf"[\"'`]{re.escape(script.model)}[\"'`]", text)


def test_a_video_is_saved_at_the_rate_of_diffusers_example_where_it_has_one():
    for script in page.SCRIPTS.values():
        if script.fps and not script.is_modular and script.pipeline != "SanaWMPipeline":
            source = inspect.getsource(sys.modules[getattr(diffusers, script.pipeline).__module__])
            assert not re.search(r"fps=\d", source) or f"fps={script.fps}" in source, script.pipeline
