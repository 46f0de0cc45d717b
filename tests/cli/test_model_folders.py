"""Model folders that are half there or contradict themselves: one sentence, exit 2, nothing written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import model_folders

PICTURE = Path(__file__).parent.parent.parent / "examples" / "scene-1.png"
SMALL = ("--steps", "1", "--size", "32x32", "--frames", "5")
COMPLETE = "Its folder must be complete, as save_pretrained leaves it, with .safetensors weights."


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


def weights(folder: Path) -> Path:
    return folder / "transformer" / "diffusion_pytorch_model.safetensors"


def changed(file: str, **entries: Any) -> Callable[[Path], None]:
    """A JSON file of the folder with other entries; None takes one out."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) | entries
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def without_a_shard(folder: Path) -> None:
    shard = "diffusion_pytorch_model-00001-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": {"blocks.0.attn1.norm_k.weight": shard}}
    weights(folder).with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    weights(folder).unlink()


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no transformer": (lambda f: shutil.rmtree(f / "transformer"), f"transformer/config.json' is missing. {COMPLETE}"),
    "no transformer in the index": (
        changed("model_index.json", transformer=None),
        f"has no transformer: its model_index.json names none. {COMPLETE}",
    ),
    "null in the index": (
        changed("model_index.json", transformer=[None, None]),
        f"has no transformer: its model_index.json names none. {COMPLETE}",
    ),
    "a class of no family": (
        changed("model_index.json", transformer=["diffusers", "AutoencoderKLWan"]),
        "has AutoencoderKLWan for its transformer, which no family describes; save the model again, or describe it",
    ),
    "another model's class": (
        changed("model_index.json", transformer=["diffusers", "FluxTransformer2DModel"]),
        "The config of FluxTransformer2DModel in .* does not describe one: it is that of a WanTransformer3DModel; save",
    ),
    "a pipeline that diffusers lacks": (
        changed("model_index.json", _class_name="WanDreamPipeline"),
        r"WanDreamPipeline of .* is not .* diffusers",
    ),
    "another model's pipeline": (
        changed("model_index.json", _class_name="FluxPipeline"),
        "FluxPipeline takes no image",
    ),
    "a modular pipeline": (
        lambda f: (f / "model_index.json").rename(f / "modular_model_index.json"),
        r"is a modular pipeline, .*load it in Python with ModularPipeline.from_pretrained, then alignvid.attach",
    ),
    "still downloading": (
        lambda f: weights(f).rename(weights(f).with_suffix(".safetensors.incomplete")),
        rf"cannot be loaded: .*no file named .*\.safetensors found .*[^.]\. {COMPLETE}",
    ),
    "cut off": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:2000]), f"cannot be loaded: .*{COMPLETE}"),
    "a shard missing": (without_a_shard, f"cannot be loaded: .*00001-of-00002.*{COMPLETE}"),
    "a pointer in place of weights": (
        lambda f: weights(f).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "cannot be loaded: .*git lfs pull",
    ),
    "layers without weights": (
        changed("transformer/config.json", num_layers=5),
        r"cannot be loaded: \d+ weights of its transformer are in no file, such as blocks\.3\.",
    ),
    "weights of another size": (
        changed("transformer/config.json", num_attention_heads=3),
        r"cannot be loaded: .*expected shape torch.Size\(\[36\]\), but got torch.Size\(\[24\]\)",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_not_whole_is_one_sentence_and_leaves_nothing(alignvid, wan, tmp_path, case):
    spoil, message = FOLDERS[case]
    folder = shutil.copytree(wan, tmp_path / "model")
    spoil(folder)
    options = ("--model", folder, "--image", PICTURE, "--prompt", "the cat", *SMALL, "--out", tmp_path / "out")
    code, out, err = alignvid("generate", *options)
    sentence = next(line for line in err.splitlines() if line.startswith("alignvid: "))
    assert (code, out) == (2, "")
    assert re.search(message, sentence), sentence
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
