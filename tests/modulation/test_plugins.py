"""Kinds of modulation of other packages: the worked example installed as a real package, and broken ones."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import alignvid
import pipelines
from alignvid.bench.runs.variants import parse_variant
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.modulation import Modulation, Scalar, from_dict, kind_named, kind_names, register
from alignvid.modulation.registry import ENTRY_POINT_GROUP
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from pipelines import generate

PAGE = Path(__file__).parents[2] / "docs" / "modulation-plugins.md"
INSTALL = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation")


def files_of_the_page() -> dict[str, str]:
    """The blocks of code of the page, by the path that the first line of each names."""
    blocks = [part.partition("\n")[2].partition("```")[0] for part in PAGE.read_text(encoding="utf-8").split("\n```")]
    return {
        first[2:]: rest
        for first, _, rest in (block.partition("\n") for block in blocks)
        if first.startswith("# f") or first.startswith("# p")
    }


@pytest.fixture(scope="module")
def fading(tmp_path_factory) -> Iterator[str]:
    """The example of the page, installed into a folder of its own that is on the path for these tests."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, text in files_of_the_page().items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    subprocess.run([*INSTALL, "--target", str(site), str(source)], check=True)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield "fading"
    sys.path.remove(str(site))
    for name in [name for name in sys.modules if name.startswith("fading_gain")]:
        del sys.modules[name]


def everywhere(modulation: Modulation) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all())


def test_an_installed_kind_is_named_among_the_others_and_read_from_data(fading):
    assert kind_names()[:2] == ["scalar", "energy"] and fading in kind_names()
    modulation = from_dict({"kind": "fading", "gamma": 1.5, "powers": {"*.text": 2.0}})
    assert Recipe.from_dict(everywhere(modulation).to_dict()) == everywhere(modulation)
    assert modulation.gain("*.text") == pytest.approx(2.25)


@pytest.mark.parametrize("name", ["wan_i2v", "framepack_v1"])
def test_a_neutral_one_is_bit_equal_and_detach_restores(fading, name):
    pipe, call = pipelines.BUILDERS[name]()
    plain = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(kind_named(fading)(1.0))) as attachment:
        assert torch.equal(generate(pipe, call), plain)
    assert attachment.acted_count > 0
    with alignvid.attach(pipe, everywhere(kind_named(fading)(1.5))) as attachment:
        assert not torch.equal(generate(pipe, call), plain)
    assert "x1.5 fading with the noise" in str(attachment)
    assert torch.equal(generate(pipe, call), plain)


@torch.no_grad()
def test_it_is_the_scalar_gain_of_each_noise_level(fading):
    transformer = pipelines.wan_i2v()[0].transformer
    torch.manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(1, 36, 3, 4, 8),
        "timestep": torch.full((1,), 600.0),
        "encoder_hidden_states": torch.randn(1, 512, 32),
        "encoder_hidden_states_image": torch.randn(1, 17, 4),
        "return_dict": False,
    }
    with alignvid.attach(transformer, everywhere(kind_named(fading)(1.5))):
        (faded,) = transformer(**inputs)
    with alignvid.attach(transformer, everywhere(Scalar(1 + 0.5 * 0.6, {"*.text": 1.0}))):
        (scaled,) = transformer(**inputs)
    assert torch.allclose(faded, scaled, atol=1e-6)  # float32; both multiply the same keys


def test_it_acts_beside_another_modulation_in_a_stated_order(fading):
    pipe, call = pipelines.wan_i2v()
    both = Recipe(
        Scalar(1.35, {"cross.image": 1.0}),
        BlockSet.of("all"),
        StepWindow.all(),
        then=(everywhere(kind_named(fading)(1.5)),),
    )
    with alignvid.attach(pipe, both) as attachment:
        generate(pipe, call)
    assert attachment.gains == {"cross.image": 1.35, "cross.text": 1.5}


def test_a_benchmark_variant_names_it(fading):
    variant = parse_variant("mine: kind=fading gamma=1.5 steps-window=0.0-0.5", sketch(find_model("miniature")))
    assert variant.recipe is not None
    assert variant.recipe.modulation.to_dict() == {"kind": "fading", "gamma": 1.5, "powers": {"*.text": 1.0}}


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ModulationError, match="'sharpen' is unknown; choose one of scalar, energy, conflict-aware, "):
        from_dict({"kind": "sharpen"})


def write_package(folder: Path, code: str, value: str = "wrong_kind") -> None:
    (folder / "wrong_kind.py").write_text(code)
    info = folder / "wrong_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nwrong = {value}\n")


WRITTEN = """
from dataclasses import dataclass
from alignvid.modulation import Scalar
@dataclass({frozen})
class MODULATION(Scalar):
    kind = "{kind}"
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", r"The modulation 'wrong' of the package 'wrong-kind' cannot be loaded: ZeroDivisionError"),
        ("MODULATION = 3", r"is no subclass of alignvid.modulation.Modulation, but 3"),
        (WRITTEN.format(frozen="", kind="wrong"), "FrozenInstance|cannot inherit non-frozen"),
        (WRITTEN.format(frozen="frozen=True", kind="scalar"), "has the name of a built-in kind, 'scalar'"),
        (WRITTEN.format(frozen="frozen=True", kind="right"), "'wrong' .* gives a modulation of kind 'right'"),
        (
            "from alignvid.modulation import Modulation\nclass MODULATION(Modulation):\n    kind = 'wrong'",
            r"lacks effects, gain, words, @dataclass\(frozen=True\); docs/modulations.md",
        ),
    ],
    ids=["fails at import", "no kind", "not frozen", "a built-in name", "another name", "unfinished"],
)
def test_a_broken_one_is_named_when_it_is_asked_for_and_breaks_nothing_else(tmp_path, monkeypatch, code, reason):
    write_package(tmp_path, code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_kind", raising=False)
    assert from_dict({"kind": "scalar"}) == Scalar()
    assert "wrong" in kind_names()
    with pytest.raises(ModulationError, match=reason):
        from_dict({"kind": "wrong"})
    sys.modules.pop("wrong_kind", None)


def test_one_that_is_registered_in_a_script_needs_no_package(monkeypatch):
    @dataclass(frozen=True)
    class Mine(Scalar):
        kind = "mine"

    monkeypatch.setattr("alignvid.modulation.registry._registered", {})
    register(Mine)
    assert from_dict({"kind": "mine", "gamma": 2.0}) == Mine(2.0)


def test_a_function_that_is_not_there_is_named_when_it_is_attached():
    @dataclass(frozen=True)
    class Lost(Scalar):
        kind = "lost"
        effects = "alignvid.attachment.effects.scalar:no_such_function"

    with pytest.raises(ModulationError, match=r"'lost' names 'alignvid.*no_such_function' .* cannot be imported"):
        alignvid.attach(pipelines.wan_i2v()[0], everywhere(Lost()))
