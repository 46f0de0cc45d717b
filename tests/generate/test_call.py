import numpy as np
import pytest
from diffusers import (
    FluxKontextPipeline,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoImageToVideoPipeline,
    WanImageToVideoPipeline,
    WanPipeline,
    WanVACEPipeline,
)
from PIL import Image

from alignvid.errors import InputError
from alignvid.generate import GenerationSpec
from alignvid.generate.call import (
    call_arguments,
    check_accepts,
    defaults_of,
    frames_of,
    ignores_negative_prompt,
    settle,
    size_of_shape,
    token_limit,
)
from video_pipelines.cosmos3 import cosmos3_t2v


class Output:
    def __init__(self, **values):
        self.__dict__.update(values)


@pytest.mark.parametrize(
    ("pipeline", "config", "fps"),
    [
        (WanImageToVideoPipeline, {}, 16),
        (WanPipeline, {"expand_timesteps": True}, 24),
        (HunyuanVideoImageToVideoPipeline, {}, 24),
        (HunyuanVideoFramepackPipeline, {}, 30),
    ],
)
def test_the_frame_rate_is_the_one_of_the_training(pipeline, config, fps):
    assert defaults_of(pipeline, config).fps == fps


def test_open_numbers_are_the_pipelines_own_defaults():
    settings = settle(GenerationSpec(prompt="a cat"), defaults_of(WanPipeline, {}), None)
    assert (settings.width, settings.height, settings.frames) == (832, 480, 81)
    assert (settings.steps, settings.guidance) == (50, 5.0)


def test_the_size_follows_the_shape_of_the_image_at_the_models_area():
    portrait = Image.new("RGB", (600, 1000))
    settings = settle(GenerationSpec(prompt="a cat"), defaults_of(WanImageToVideoPipeline, {}), portrait)
    assert (settings.width, settings.height) == (496, 816)


@pytest.mark.parametrize("aspect", [0.01, 0.5, 1, 16 / 9, 100])
def test_every_shape_gets_sides_that_the_models_can_make(aspect):
    width, height = size_of_shape(aspect, 480 * 832)
    assert width % 16 == height % 16 == 0
    assert min(width, height) >= 16


def test_a_size_asked_for_wins_over_the_shape():
    spec = GenerationSpec(prompt="a cat", width=64, height=32)
    settings = settle(spec, defaults_of(WanImageToVideoPipeline, {}), Image.new("RGB", (600, 1000)))
    assert (settings.width, settings.height) == (64, 32)


def test_only_what_the_call_accepts_is_passed():
    spec = GenerationSpec(prompt="a cat", image="cat.png", width=32, height=32)
    for pipeline in (WanImageToVideoPipeline, HunyuanVideoImageToVideoPipeline, WanVACEPipeline):
        settings = settle(spec, defaults_of(pipeline, {}), Image.new("RGB", (64, 40)))
        arguments = call_arguments(pipeline, spec, settings, Image.new("RGB", (32, 32)))
        assert set(arguments) <= set(pipeline.__call__.__annotations__)


def test_vace_gets_the_image_as_its_reference():
    spec = GenerationSpec(prompt="a cat", image="cat.png", width=32, height=32)
    image = Image.new("RGB", (32, 32))
    settings = settle(spec, defaults_of(WanVACEPipeline, {}), image)
    assert call_arguments(WanVACEPipeline, spec, settings, image)["reference_images"] == [image]


def test_an_image_for_a_model_without_one_is_refused():
    with pytest.raises(InputError, match=r"WanPipeline takes no image, but 'cat\.png' was given"):
        check_accepts(WanPipeline, GenerationSpec(prompt="a cat", image="cat.png"))


def test_a_missing_reference_image_is_asked_for():
    with pytest.raises(InputError, match="WanImageToVideoPipeline needs a reference image; give one with --image"):
        check_accepts(WanImageToVideoPipeline, GenerationSpec(prompt="a cat"))


def test_frames_for_a_model_of_images_are_refused():
    with pytest.raises(InputError, match="FluxKontextPipeline does not accept frames, but 9 was given"):
        check_accepts(FluxKontextPipeline, GenerationSpec(prompt="a cat", image="cat.png", frames=9))


def test_a_negative_prompt_needs_guidance_above_one():
    wan = settle(GenerationSpec(prompt="a cat", guidance=1.0), defaults_of(WanPipeline, {}), None)
    assert ignores_negative_prompt(WanPipeline, wan)
    guided = settle(GenerationSpec(prompt="a cat"), defaults_of(WanPipeline, {}), None)
    assert not ignores_negative_prompt(WanPipeline, guided)


def test_distilled_guidance_ignores_a_negative_prompt():
    settings = settle(GenerationSpec(prompt="a cat"), defaults_of(HunyuanVideoFramepackPipeline, {}), None)
    assert ignores_negative_prompt(HunyuanVideoFramepackPipeline, settings)


def test_the_text_encoders_limit_is_read_from_the_call():
    assert token_limit(WanPipeline) == 512
    assert token_limit(HunyuanVideoFramepackPipeline) == 256


def test_frames_are_rounded_to_eight_bits():
    output = Output(frames=np.array([[[[[0.0, 0.5, 1.2]]]]]))
    assert frames_of(output).tolist() == [[[[0, 128, 255]]]]


def test_an_image_is_a_video_of_one_frame():
    assert frames_of(Output(images=np.zeros((1, 4, 4, 3)))).shape == (1, 4, 4, 3)


def test_cosmos3_gives_one_video_and_needs_no_image():
    pipe, _ = cosmos3_t2v()
    spec = GenerationSpec(prompt="a cat", width=64, height=32, frames=5, steps=1)
    check_accepts(type(pipe), spec)
    settings = settle(spec, defaults_of(type(pipe), {}), None)
    arguments = call_arguments(type(pipe), spec, settings, None)
    assert frames_of(pipe(**arguments)).shape == (5, 32, 64, 3)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match=r"overflow .* choose dtype"):
        frames_of(Output(frames=np.full((1, 2, 2, 2, 3), np.nan)))
