"""The miniature in ComfyUI: diffusers' numbers, ComfyUI's Wan code, stock nodes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import comfyui_core as core
import comfyui_miniature as graph
from alignvid.miniature import load_pipeline
from alignvid.miniature.evaluate import trials
from alignvid.miniature.scenes import DEVELOPMENT
from comfyui_pack import pack

SCENE = trials(DEVELOPMENT, 1)[0]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline()


@torch.no_grad()
def test_the_converted_transformer_gives_what_diffusers_gives(pipeline: Any) -> None:
    transformer, comfy = pipeline.transformer, graph.loaded()[0].model.diffusion_model
    latents, text = core.drawn(1, 36, 3, 10, 10, seed=0), core.drawn(1, 512, 64, seed=1)
    picture = core.drawn(1, 65, 64, seed=2)
    expected = transformer(latents, torch.tensor([700.0]), text, picture, return_dict=False)[0]
    found = comfy(latents, torch.tensor([700.0]), text, clip_fea=picture.repeat(1, 1, 20))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert float(expected.abs().max()) > 1.0


@torch.no_grad()
def test_prompt_picture_and_latents_are_those_of_the_pipeline(pipeline: Any) -> None:
    from PIL import Image

    frame = graph.first_frame_of(SCENE.scene)
    positive, _, _ = graph.conditioned(frame, SCENE.prompt, len(frame))
    text, given = positive[0]
    expected, _ = pipeline.encode_prompt(SCENE.prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    assert torch.equal(text, expected)
    picture = pipeline.encode_image(Image.fromarray(frame))
    seen = given["clip_vision_output"].penultimate_hidden_states
    torch.testing.assert_close(seen, picture.repeat(1, 1, 20), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_whole_run_gives_the_clip_of_diffusers(pipeline: Any) -> None:
    """Same noise, sigmas and padding, Euler's steps on both sides."""
    from PIL import Image

    frame = graph.first_frame_of(SCENE.scene)
    size = len(frame)
    positive, negative, latent = graph.conditioned(frame, SCENE.prompt, size)
    model, _, _, vae = graph.loaded()
    sigmas = core.comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 10)
    noise = core.drawn(*latent["samples"].shape, seed=11)
    found = core.comfy.sample.sample_custom(
        model,
        noise,
        1.0,
        core.comfy.samplers.sampler_object("euler"),
        sigmas,
        positive,
        negative,
        latent["samples"],
        disable_pbar=True,
        seed=0,
    )
    image = pipeline.video_processor.preprocess(Image.fromarray(frame), height=size, width=size)
    _, condition = pipeline.prepare_latents(
        image, 1, num_channels_latents=16, height=size, width=size, num_frames=9, dtype=torch.float32, device="cpu"
    )
    text, _ = pipeline.encode_prompt(SCENE.prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    picture = pipeline.encode_image(Image.fromarray(frame))
    latents = noise
    for sigma, following in pairwise(sigmas):
        given = torch.cat([latents, condition], 1)
        velocity = pipeline.transformer(given, sigma[None] * 1000.0, text, picture, return_dict=False)[0]
        latents = latents + (following - sigma) * velocity
    sizes = pipeline.vae.config
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (sizes.latents_mean, sizes.latents_std))
    expected = latents * std + mean
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)
    ours = vae.decode(found)[0]
    decoded = pipeline.vae.decode(expected, return_dict=False)[0]
    theirs = pipeline.video_processor.postprocess_video(decoded, output_type="np")[0]
    assert np.abs(ours.numpy() - theirs).max() < 0.01


def test_its_own_preset_is_found_and_acts() -> None:
    frame = graph.first_frame_of(SCENE.scene)
    plain, model = graph.clip_of(frame, SCENE.prompt, 1, graph.loaded()[0]), graph.aligned()
    found = graph.clip_of(frame, SCENE.prompt, 1, model)
    patch = pack("patch").patch_of(model)
    assert patch.attachment.name == "miniature:calibrated" and patch.run.acted == 10 * 6
    assert plain.shape == (9, len(frame), len(frame), 3) and not np.array_equal(plain, found)
    neutral = graph.clip_of(frame, SCENE.prompt, 1, graph.aligned(strength="gamma", gamma=1.0))
    assert np.array_equal(neutral, plain)
