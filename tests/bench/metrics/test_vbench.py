"""Parity with VBench 0.1.5 itself, on random weights: `make test-vbench`. DINO's code is no part of VBench; set
ALIGNVID_DINO to a checkout of facebookresearch/dino to compare with it, too.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from alignvid.bench.metrics import measure_run, vbench_aggregate
from alignvid.bench.metrics.backbones.viclip import encoder_names
from metric_models import moving_square, save_run, save_tokenizer

PYTHON = os.environ.get("ALIGNVID_VBENCH")
TOLERANCE = 1e-6

pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs VBench's own environment: make test-vbench")

CLIPS = {
    "landscape": moving_square(9, height=130, width=241, step=9),
    "portrait": moving_square(6, height=240, width=136, step=2),
    "still": moving_square(4, height=136, width=136, step=0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"), CLIPS, fps=12.0)


@pytest.fixture(scope="module")
def oracle(run, tmp_path_factory):
    """VBench's values, and the folder with the weights that it used."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "videos").symlink_to(run.path / "videos")
    Image.fromarray(CLIPS["landscape"][0]).save(folder / "image.png")
    tokenizer = AutoTokenizer.from_pretrained(save_tokenizer(folder / "tokenizer"))
    (folder / "tokens.json").write_text(json.dumps(padded(tokenizer("the cat puts on sunglasses")["input_ids"])))
    script = Path(__file__).parent / "vbench_oracle.py"
    subprocess.run([PYTHON, script, folder], check=True, timeout=900, cwd=folder)
    return folder, json.loads((folder / "expected.json").read_text())


def padded(ids):
    """To 32 tokens with zeros, as VBench's tokenizer pads."""
    return [*ids, *[0] * (32 - len(ids))]


def clip_folder(path, patch):
    """The image side of OpenAI's CLIP, from its own names to a folder of transformers."""
    state = torch.load(path, weights_only=True)
    norms = {"ln_pre": "vision_model.pre_layrnorm", "ln_post": "vision_model.post_layernorm"}
    renamed = {
        "vision_model.embeddings.class_embedding": state["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "visual_projection.weight": state["proj"].T.contiguous(),
        **{f"{new}.{kind}": state[f"{old}.{kind}"] for old, new in norms.items() for kind in ("weight", "bias")},
        **encoder_names(state, "vision_model.encoder."),
    }
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, patch_size=patch, image_size=224, projection_dim=96, hidden_act="quick_gelu")
    model = CLIPVisionModelWithProjection(config)
    model.load_state_dict(renamed)
    folder = path.with_suffix("")
    model.save_pretrained(folder)
    return folder


def sources(name, folder):
    return {
        "temporal_flickering": lambda: {},
        "dynamic_degree": lambda: {"raft": folder / "raft-things.pth"},
        "aesthetic_quality": lambda: {
            "clip-vit-l-14": clip_folder(folder / "clip-l.pth", 14),
            "aesthetic-head": folder / "head.pth",
        },
        "background_consistency": lambda: {"clip-vit-b-32": clip_folder(folder / "clip-b.pth", 32)},
        "subject_consistency": lambda: {"dino-vit-b-16": folder / "dino.pth"},
        "i2v_subject": lambda: {"dino-vit-b-16": folder / "dino.pth"},
        "viclip_similarity": lambda: {"viclip": folder / "viclip.pth", "clip-tokenizer": folder / "tokenizer"},
    }[name]()


@pytest.mark.parametrize(
    "name",
    [
        "temporal_flickering",
        "dynamic_degree",
        "aesthetic_quality",
        "background_consistency",
        "subject_consistency",
        "i2v_subject",
        "viclip_similarity",
    ],
)
def test_values_are_vbenchs(name, run, oracle, record_property):
    if name in ("subject_consistency", "i2v_subject") and "ALIGNVID_DINO" not in os.environ:
        pytest.skip("needs ALIGNVID_DINO")
    folder, expected = oracle
    assert isinstance(expected[name], list), expected[name]
    if name == "i2v_subject":
        for image in (run.path / "images").glob("*.png"):
            image.write_bytes((folder / "image.png").read_bytes())

    measure_run(
        run, [name], protocol="vbench", sources={k: str(v) for k, v in sources(name, folder).items()}, device="cpu"
    )

    rows = sorted((row for row in run.metrics() if row.metric == name), key=lambda row: row.job)
    found = [row.value for row in rows]
    wanted = [item["value"] for item in expected[name]]  # by file name, which is the job
    print(f"{name}: ours {found}, largest difference {np.abs(np.subtract(found, wanted)).max():.1e}")
    assert found == pytest.approx(wanted, abs=TOLERANCE)
    for row, item in zip(rows, expected[name], strict=True):
        if "pairs" in item:  # VBench stops at the pair that decides
            assert row.details["pairs"] == pytest.approx(item["pairs"], rel=TOLERANCE)
    if "aggregate" in expected[name][0]:
        assert vbench_aggregate(rows) == pytest.approx(expected[name][0]["aggregate"], abs=TOLERANCE)
