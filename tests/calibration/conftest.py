import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam2Config, Sam2MaskDecoderConfig, Sam2Model, Sam2PromptEncoderConfig, Sam2VisionConfig
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig

import model_folders

SMALL = {"width": 128, "height": 64, "frames": 5, "steps": 2, "gamma": 1.5}
SAM2_SIDE = 128


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    """The folder of a tiny Wan image-to-video pipeline."""
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


@pytest.fixture
def fields(wan):
    """A small generation: 128x64 pixels, 5 frames, 2 steps, on the tiny pipeline."""
    return {"model": str(wan), **SMALL}


@pytest.fixture
def data(tmp_path):
    """Three pairs with masks: a bright object in grey, each at another place, in pictures of 64x32 pixels."""
    folder = tmp_path / "data"
    (folder / "masks").mkdir(parents=True)
    rows = []
    for number, left in enumerate((10, 22, 34)):
        pixels, mask = np.full((32, 64, 3), 120, np.uint8), np.zeros((32, 64), np.uint8)
        pixels[8:24, left : left + 20], mask[8:24, left : left + 20] = (230, 40, 30), 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"pair-{number}.png")
        rows.append({"id": f"pair-{number}", "image": f"{number}.png", "prompt": "the red circle disappears"})
    (folder / "jobs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture(scope="session")
def sam2_folder(tmp_path_factory):
    """A real `Sam2Model`, tiny and random, as a released one is saved."""
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SAM2_SIDE, SAM2_SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 2, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=SAM2_SIDE, patch_size=16),
        mask_decoder_config=Sam2MaskDecoderConfig(**decoder),
    )
    folder = tmp_path_factory.mktemp("models") / "sam2"
    Sam2Model(config).save_pretrained(folder)
    return folder
