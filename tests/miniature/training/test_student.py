"""What the distilled transformer learns is what the pipelines do: the teacher's way, and its own four steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from alignvid.miniature import load_pipeline
from alignvid.miniature.architecture import build_tokenizer
from alignvid.miniature.distilled import FILE, STEPS, distilled
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, first_frame
from alignvid.miniature.padding import use_one_padding_key
from alignvid.miniature.prompts import clean_caption
from alignvid.miniature.scenes import sample_scene
from alignvid.miniature.training.latents import encode
from alignvid.miniature.training.teacher import FINER, GUIDANCE, Ways, teacher_ways
from alignvid.miniature.training.train_student import (
    LowRank,
    add_student,
    directions,
    export_student,
    own_way,
    step_losses,
    student_levels,
)
from alignvid.miniature.training.train_towers import CAPTION_TOKENS, tokenise
from alignvid.miniature.training.train_transformer import TextToVideo

SCENES = [sample_scene(seed) for seed in range(2)]
CAPTIONS = [clean_caption(scene) for scene in SCENES]


@pytest.fixture
def pipeline() -> WanImageToVideoPipeline:
    return load_pipeline()


def model_of(pipeline: WanImageToVideoPipeline) -> TextToVideo:
    """Parts of its own, since the training's attention processor stays in them."""
    own = load_pipeline()
    return TextToVideo(own.text_encoder, own.transformer)


def latents_of_call(
    pipeline: WanImageToVideoPipeline, noise: torch.Tensor, steps: int, guidance: float
) -> torch.Tensor:
    """What the pipeline makes of the first scene."""
    return pipeline(
        image=Image.fromarray(first_frame(SCENES[0])),
        prompt=CAPTIONS[0],
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=noise[:1],
        output_type="latent",
    ).frames


def test_the_teachers_way_is_the_pipelines_and_the_students_steps_are_those_it_takes(pipeline, tmp_path) -> None:
    """Noise to clip, with guidance in twelve steps, and with a LoRA in four."""
    model, scenes = model_of(pipeline), encode(SCENES, pipeline.vae, pipeline.image_encoder)
    tokens = tokenise(build_tokenizer(), CAPTIONS, CAPTION_TOKENS)
    noise = torch.randn(scenes.shown.shape, generator=torch.Generator().manual_seed(0))
    processor = use_one_padding_key(model.transformer)
    way = teacher_ways(model, processor, tokens, scenes, noise)
    assert way.shape[1] == STEPS + 1 and torch.equal(way[:, 0], noise)
    torch.testing.assert_close(
        way[:1, -1], latents_of_call(pipeline, noise, FINER * STEPS, GUIDANCE), atol=0.02, rtol=0.0
    )

    student = add_student(model)
    for part in student:
        assert isinstance(part, LowRank)
        torch.nn.init.normal_(part.up, std=0.01)
    taught, levels = Ways(torch.arange(2), *tokens, way), student_levels()
    own = own_way(model, processor, taught, scenes, levels)
    assert (own[:, -1] - way[:, -1]).abs().max() > 0.1
    export_student(model, student, tmp_path)
    found = latents_of_call(distilled(pipeline, tmp_path), noise, STEPS, 1.0)
    torch.testing.assert_close(own[:1, -1], found, atol=0.02, rtol=0.0)  # half precision of the file

    losses = step_losses(model, processor, taught, scenes, levels)
    losses["loss"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in student.parameters())
    assert all(
        value.grad is None for name, value in model.named_parameters() if "parametrizations.weight.0" not in name
    )


def test_a_step_leads_back_to_the_teachers_way() -> None:
    """By as much as the noise shrinks, so that nothing of the distance is left in the clip."""
    levels = student_levels()
    way = torch.randn(3, STEPS + 1, 1, 1, 1, 1)
    begin = way[:, :-1] + torch.randn(3, STEPS, 1, 1, 1, 1)
    noise = levels.noise.view(1, -1, 1, 1, 1, 1)
    ends = begin + (noise[:, 1:] - noise[:, :-1]) * directions(way, begin, levels)
    torch.testing.assert_close(ends - way[:, 1:], (begin - way[:, :-1]) * noise[:, 1:] / noise[:, :-1])


def test_the_file_is_one_that_diffusers_reads(pipeline, tmp_path) -> None:
    model = model_of(pipeline)
    student = add_student(model)
    for part in student:
        torch.nn.init.normal_(part.up, std=0.01)
    export_student(model, student, tmp_path)
    noise = torch.randn(1, 16, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    plain = latents_of_call(pipeline, noise, 2, 1.0)
    pipeline.load_lora_weights(tmp_path, weight_name=FILE)
    loaded = latents_of_call(pipeline, noise, 2, 1.0)
    pipeline.unload_lora_weights()
    scheduler = pipeline.scheduler
    distilled(pipeline, tmp_path).scheduler = scheduler
    added = latents_of_call(pipeline, noise, 2, 1.0)
    torch.testing.assert_close(loaded, added, atol=1e-4, rtol=1e-4)
    assert (loaded - plain).abs().max() > 0.1
