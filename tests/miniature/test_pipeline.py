"""The shipped pipeline: real classes, small files, nothing unsafe, and batches that equal single calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from transformers import CLIPVisionModel, UMT5EncoderModel

import alignvid
from alignvid.errors import InputError
from alignvid.miniature import load_pipeline, weights_folder
from alignvid.miniature.batches import batched
from alignvid.miniature.drawing import HEIGHT, WIDTH, first_frame
from alignvid.miniature.evaluate import Variant, evaluate, trials
from alignvid.miniature.scenes import DEVELOPMENT, sample_scene
from alignvid.miniature.training.train_towers import pixel_values
from alignvid.modulation import Nag

STEPS = 3


@pytest.fixture(scope="module")
def pipeline() -> WanImageToVideoPipeline:
    return load_pipeline()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(first_frame(sample_scene(seed)))


def single(pipeline: WanImageToVideoPipeline, seed: int, prompt: str, guidance: float) -> np.ndarray:
    return pipeline(
        image=picture(seed),
        prompt=prompt,
        height=HEIGHT,
        width=WIDTH,
        num_frames=9,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
    ).frames[0]


def test_the_classes_are_those_of_wan(pipeline: WanImageToVideoPipeline) -> None:
    parts = [pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.image_encoder, pipeline.scheduler]
    classes = [WanTransformer3DModel, AutoencoderKLWan, UMT5EncoderModel, CLIPVisionModel, UniPCMultistepScheduler]
    assert [type(part) for part in parts] == classes
    assert pipeline.transformer.config.image_dim is not None


def test_weights_are_small_and_hold_no_pickle() -> None:
    files = [path for path in weights_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_no_file_tells_where_it_was_made() -> None:
    named = [path.name for path in weights_folder().rglob("*.json") if '"/' in path.read_text(encoding="utf-8")]
    assert named == []


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pipeline"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_equals_single_calls(pipeline: WanImageToVideoPipeline, guidance: float) -> None:
    prompts = ["remove the red circle", "a striped background . add a blue square at the top left"]
    pictures = [picture(0), picture(1)]
    clips = batched(pipeline).generate(pictures, prompts, [0, 1], steps=STEPS, guidance=guidance)
    for seed, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
        alone = single(pipeline, seed, prompt, guidance) * 255
        assert np.abs(clip - alone).max() <= 1.0  # rounding to 8 bits, and sums in another order


def test_the_image_tower_sees_in_training_what_it_sees_in_use(pipeline: WanImageToVideoPipeline) -> None:
    with torch.no_grad():
        trained = pipeline.image_encoder(pixel_values([first_frame(sample_scene(0))]), output_hidden_states=True)
        assert torch.equal(pipeline.encode_image(picture(0)), trained.hidden_states[-2])


def test_records_are_kept_and_not_made_again(pipeline: WanImageToVideoPipeline, tmp_path: Path) -> None:
    records, variant = tmp_path / "records.jsonl", Variant("baseline", None, steps=2)
    cases = trials(DEVELOPMENT, 3)
    first = evaluate(pipeline, cases[:2], variant, noise_seed=0, records=records)
    again = evaluate(pipeline, cases, variant, noise_seed=0, records=records)
    assert [(o.scene, o.edit_shown) for o in again[:2]] == [(o.scene, o.edit_shown) for o in first]
    assert len(records.read_text().splitlines()) == 3


def test_a_batch_encodes_the_negative_text_of_nag_by_itself(pipeline: WanImageToVideoPipeline) -> None:
    """Not the batch's own prompts in its place."""
    prompts, nag = ["remove the red circle", "add a blue square at the top left"], Nag("a blue triangle", scale=4.0)
    twin = batched(pipeline)
    with alignvid.attach(twin, nag):
        clips = twin.generate([picture(0), picture(1)], prompts, [0, 1], steps=STEPS, guidance=1.0)
    with alignvid.attach(pipeline, nag):
        alone = [single(pipeline, seed, prompt, 1.0) * 255 for seed, prompt in enumerate(prompts)]
    assert all(np.abs(clip - one).max() <= 1.0 for clip, one in zip(clips, alone, strict=True))
    assert np.abs(clips[0] - single(pipeline, 0, prompts[0], 1.0) * 255).max() > 1.0


def test_a_call_without_a_size_is_refused_by_a_sentence_that_gives_one(pipeline: WanImageToVideoPipeline) -> None:
    """diffusers' own size is for a real Wan; the class stays diffusers' own."""
    with pytest.raises(InputError, match=r"80×80 pixels and 9 frames.*832×480 and 81 frames.*Give height=80, width=80"):
        pipeline(image=picture(0), prompt="remove the red circle")
    assert type(pipeline) is WanImageToVideoPipeline
    copied = WanImageToVideoPipeline.from_pipe(pipeline)
    assert copied.transformer is pipeline.transformer
