"""What the stages learn from is what the pipeline will give the model in use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import WanImageToVideoPipeline
from PIL import Image

from alignvid.miniature import load_pipeline
from alignvid.miniature.architecture import build_text_encoder, build_tokenizer, build_transformer
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, first_frame
from alignvid.miniature.padding import use_one_padding_key
from alignvid.miniature.scenes import sample_scene
from alignvid.miniature.training.latents import EncodedScenes, encode, encode_clips
from alignvid.miniature.training.train import main
from alignvid.miniature.training.train_towers import tokenise
from alignvid.miniature.training.train_transformer import DIETS, TextToVideo, draw_batch, flow_losses
from alignvid.miniature.training.train_vae import DECODER_CURRICULUM, batch_at, decode_unclamped, latents_of

SCENES = [sample_scene(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def pipeline() -> WanImageToVideoPipeline:
    return load_pipeline()


def test_the_condition_is_encoded_as_the_pipeline_encodes_it(pipeline: WanImageToVideoPipeline) -> None:
    picture = Image.fromarray(first_frame(SCENES[0]))
    pixels = pipeline.video_processor.preprocess(picture, height=HEIGHT, width=WIDTH)
    with torch.no_grad():
        _, given = pipeline.prepare_latents(
            pixels, 1, 16, HEIGHT, WIDTH, FRAMES, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
        )
    trained = encode_clips(SCENES[:1], pipeline.vae)["condition"]
    mask, condition = given[:, :4], given[:, 4:]
    assert (condition - trained).abs().max() < 1e-4  # pixels pass through 8 bits on both ways
    assert torch.equal(mask[:, :, 0], torch.ones_like(mask[:, :, 0])) and not mask[:, :, 1:].any()


def test_decoding_in_training_is_decoding_without_the_clamp(pipeline: WanImageToVideoPipeline) -> None:
    clips = batch_at(DECODER_CURRICULUM, [0, 1, 0])[:1]
    with torch.no_grad():
        latents = latents_of(pipeline.vae, clips)
        decoded = pipeline.vae.decode(latents, return_dict=False)[0]
        assert torch.equal(decode_unclamped(pipeline.vae, latents).clamp(-1, 1), decoded)


def test_the_autoencoder_reproduces_scenes(pipeline: WanImageToVideoPipeline) -> None:
    clips = batch_at(DECODER_CURRICULUM, [0, 1, 800])
    with torch.no_grad():
        error = (pipeline.vae.decode(latents_of(pipeline.vae, clips), return_dict=False)[0] - clips).square().mean()
    assert 10 * torch.log10(4 / error) > 28  # decibels; it was trained to 30 and more


@pytest.mark.parametrize("diet", DIETS, ids=lambda diet: diet.plan.name)
def test_the_loss_reaches_the_transformer_and_the_text_encoder(diet, pipeline: WanImageToVideoPipeline) -> None:
    encoded = encode(SCENES, pipeline.vae, pipeline.image_encoder)
    scenes = EncodedScenes(*(tensor.half() for tensor in encoded))
    tokenizer = build_tokenizer()
    model = TextToVideo(build_text_encoder(tokenizer), build_transformer())
    rng = np.random.default_rng(0)
    batch = draw_batch(diet, scenes, SCENES, rng)
    tokens = tokenise(tokenizer, batch.captions, diet.caption_tokens)
    flow_losses(model, use_one_padding_key(model.transformer), tokens, batch, rng)["loss"].backward()
    for part in (model.transformer.blocks, model.text_encoder):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def test_the_command_names_its_stages() -> None:
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "fluent" in shown.output
