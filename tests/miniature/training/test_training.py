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
from alignvid.miniature.training.clips import decode_unclamped, latents_of
from alignvid.miniature.training.dense import Window, batch_of
from alignvid.miniature.training.latents import (
    EncodedScenes,
    blurred_reference,
    encode,
    encode_clips,
    encode_pictures,
    encode_shown,
    image_tokens,
    of_another_kind,
    scene_number,
)
from alignvid.miniature.training.train import main
from alignvid.miniature.training.train_towers import tokenise
from alignvid.miniature.training.train_transformer import (
    DIETS,
    TextToVideo,
    draw_batch,
    flow_losses,
    kind_direction,
    softened,
)
from alignvid.miniature.training.train_vae import development_clips, edges, quality, quick_convolutions, reconstructed

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
    clips = batch_of(Window(1, FRAMES, 40), np.random.default_rng(0))
    with torch.no_grad():
        latents = latents_of(pipeline.vae, clips)
        decoded = pipeline.vae.decode(latents, return_dict=False)[0]
        assert torch.equal(decode_unclamped(pipeline.vae, latents).clamp(-1, 1), decoded)


def test_the_autoencoder_reproduces_scenes(pipeline: WanImageToVideoPipeline) -> None:
    clips = development_clips(4)
    copies = quality(clips, reconstructed(pipeline.vae, clips))
    assert (
        copies["db_all"] > 31 and copies["db_first"] > 35
    )  # decibels; docs/miniature.md has the rates on held-out ones


def test_quick_convolutions_change_nothing(pipeline: WanImageToVideoPipeline) -> None:
    """But the order in which numbers are added."""
    frames = batch_of(Window(1, 1, 40), np.random.default_rng(0))
    with torch.no_grad():
        usual = latents_of(pipeline.vae, frames)
        with quick_convolutions():
            assert torch.allclose(latents_of(pipeline.vae, frames), usual, atol=1e-4)


def test_rims_are_where_shapes_end() -> None:
    clip = torch.zeros(1, 3, 1, 12, 12)
    clip[..., 4:8, 4:8] = 1
    assert edges(clip)[0, 0, 0].nonzero().tolist() == [
        [row, column] for row in range(3, 9) for column in range(3, 9) if {row, column} & {3, 4, 7, 8}
    ]


def test_a_blurred_reference_image_replaces_channels_and_tokens(pipeline: WanImageToVideoPipeline) -> None:
    scenes = encoded_pictures(pipeline).at(torch.arange(5))
    chosen = softened(scenes, torch.tensor([True, False, False, False, False]))
    assert torch.equal(chosen.condition[0], scenes.soft[0]) and torch.equal(chosen.image[0], scenes.soft_image[0])
    assert torch.equal(chosen.condition[1:], scenes.condition[1:]) and torch.equal(chosen.image[1:], scenes.image[1:])
    assert not torch.equal(scenes.soft[0], scenes.condition[0])


def test_every_scene_comes_with_its_own_picture(pipeline: WanImageToVideoPipeline) -> None:
    scenes = encoded_pictures(pipeline).at(torch.tensor([3]))
    again = encode([scene_number(3)], pipeline.vae, pipeline.image_encoder)
    for name in ("shown", "still", "condition", "image"):
        assert (getattr(scenes, name) - getattr(again, name)).abs().max() < 0.02, name  # half precision


def test_the_wrong_kind_of_shape_is_drawn_where_the_edit_is() -> None:
    for seed in range(20):
        scene = sample_scene(seed)
        other = of_another_kind(scene)
        if scene.edit.result is None:
            assert other == scene
            continue
        assert other.edit.result is not None and other.edit.result.kind != scene.edit.result.kind
        kept = [n for n in range(len(scene.shapes)) if n != scene.edit.target]
        assert [other.shapes[n] for n in kept] == [scene.shapes[n] for n in kept]
        again = of_another_kind(other).edit.result
        assert again is not None and again.kind in ("circle", "square")


def test_the_loss_counts_the_direction_of_the_wrong_kind(pipeline: WanImageToVideoPipeline) -> None:
    """All unit vectors but a deletion's, which has no other kind; a step along it leads to the rival."""
    scenes = encoded_pictures(pipeline).at(torch.arange(5))
    towards = kind_direction(scenes)
    lengths = towards.square().sum((1, 2, 3, 4)).sqrt()
    has_other = torch.tensor([scene_number(index).edit.result is not None for index in range(5)])
    torch.testing.assert_close(lengths, has_other.float())
    apart = (scenes.rival - scenes.shown).square().sum((1, 2, 3, 4), keepdim=True).sqrt()
    torch.testing.assert_close(scenes.shown + apart * towards, scenes.rival)


def encoded_pictures(pipeline: WanImageToVideoPipeline) -> EncodedScenes:
    """The five scenes of the first picture."""
    fields = encode_pictures(range(1), pipeline.vae)
    fields["rival"] = encode_shown([of_another_kind(scene_number(index)) for index in range(5)], pipeline.vae)
    scene = scene_number(0)
    sharp, soft = (
        image_tokens([picture], pipeline.image_encoder) for picture in (first_frame(scene), blurred_reference(scene, 0))
    )
    return EncodedScenes(*(t.half() for t in EncodedScenes(**fields, image=sharp, soft_image=soft)))


@pytest.mark.parametrize(
    "diet",
    [DIETS[0], *(pytest.param(diet, marks=pytest.mark.slow) for diet in DIETS[1:])],
    ids=lambda diet: diet.plan.name,
)
def test_the_loss_reaches_the_transformer_and_the_text_encoder(diet, pipeline: WanImageToVideoPipeline) -> None:
    scenes = encoded_pictures(pipeline)
    tokenizer = build_tokenizer()
    model = TextToVideo(build_text_encoder(tokenizer), build_transformer())
    rng = np.random.default_rng(0)
    batch = draw_batch(diet, scenes, [scene_number(index) for index in range(5)], rng)
    tokens = tokenise(tokenizer, batch.captions, diet.caption_tokens)
    flow_losses(model, use_one_padding_key(model.transformer), tokens, batch, rng)["loss"].backward()
    for part in (model.transformer.blocks, model.text_encoder):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def test_the_command_names_its_stages() -> None:
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "fluent" in shown.output
