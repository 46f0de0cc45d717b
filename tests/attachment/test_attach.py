from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel, WanTransformer3DModel
from torch import nn

import alignvid
from alignvid import Recipe, Scalar, StepWindow
from alignvid.errors import (
    AttachmentError,
    ModulationError,
    RecipeError,
    ScheduleError,
    UnknownPreset,
    UnknownTarget,
    UnsupportedModel,
)
from pipelines import BUILDERS, WAN_TRANSFORMER, framepack_v1, generate, hunyuan_t2v, wan22_i2v, wan_i2v, wan_t2v

EVERYTHING = Recipe(Scalar(1.35, {"*.*": 1.0}), alignvid.BlockSet.of("all"), StepWindow.all())


def snapshot(pipe: DiffusionPipeline) -> dict[str, Any]:
    """Class, weights' names, instance attributes and number of hooks of every module of every transformer."""
    return {
        f"{host}.{name}": (
            type(module),
            list(module.state_dict()),
            {key: len(value) if isinstance(value, dict) else None for key, value in vars(module).items()},
        )
        for host, transformer in pipe.components.items()
        if host.startswith("transformer") and transformer is not None
        for name, module in transformer.named_modules()
    }


def kinds_and_attributes(pipe: DiffusionPipeline) -> list[tuple[type, set[str]]]:
    return [(type(module), set(vars(module))) for module in pipe.transformer.modules()]


@pytest.fixture(params=BUILDERS)
def built(request):
    return BUILDERS[request.param]()


def test_a_neutral_gain_is_bit_equal(built):
    pipe, call = built
    expected = generate(pipe, call)
    with alignvid.attach(pipe, EVERYTHING, gamma=1.0) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


def test_the_papers_gain_changes_the_output(built):
    pipe, call = built
    expected = generate(pipe, call)
    with alignvid.attach(pipe, "generic"):
        assert not torch.equal(generate(pipe, call), expected)


def test_detach_restores_classes_state_and_output(built):
    pipe, call = built
    expected, before = generate(pipe, call), snapshot(pipe)
    attachment = alignvid.attach(pipe, EVERYTHING)
    generate(pipe, call)
    attachment.detach()
    assert snapshot(pipe) == before
    assert torch.equal(generate(pipe, call), expected)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_interrupted_run_is_detached_like_any_other(built, error):
    pipe, call = built
    expected, before = generate(pipe, call), snapshot(pipe)

    def interrupt(*_: Any) -> dict:
        raise error

    with pytest.raises(error), alignvid.attach(pipe, EVERYTHING):
        generate(pipe, call, callback_on_step_end=interrupt)
    assert snapshot(pipe) == before
    assert torch.equal(generate(pipe, call), expected)


def test_weights_keep_their_names_while_attached(built):
    pipe, _ = built
    before = {name: keys for name, (_, keys, _) in snapshot(pipe).items()}
    with alignvid.attach(pipe, EVERYTHING):
        assert {name: keys for name, (_, keys, _) in snapshot(pipe).items()} == before


def test_detaching_twice_or_nothing_is_fine():
    pipe, call = wan_i2v()
    expected = generate(pipe, call)
    alignvid.detach(pipe)
    attachment = alignvid.attach(pipe)
    attachment.detach()
    attachment.detach()
    alignvid.detach(pipe)
    assert torch.equal(generate(pipe, call), expected)


def test_an_old_attachment_does_not_detach_a_new_one():
    pipe, call = wan_t2v()
    old = alignvid.attach(pipe)
    alignvid.detach(pipe)
    alignvid.attach(pipe, EVERYTHING)
    attached = generate(pipe, call)
    old.detach()
    assert torch.equal(generate(pipe, call), attached)


def test_attaching_again_after_detaching_is_as_the_first_time():
    pipe, call = framepack_v1()
    with alignvid.attach(pipe, EVERYTHING):
        first = generate(pipe, call)
    with alignvid.attach(pipe, EVERYTHING):
        assert torch.equal(generate(pipe, call), first)


def test_a_detached_attachment_cannot_be_entered():
    pipe, _ = wan_t2v()
    attachment = alignvid.attach(pipe)
    attachment.detach()
    with pytest.raises(AttachmentError, match="was detached; attach again"), attachment:
        pass


def test_a_second_attachment_is_refused_by_name_and_leaves_the_first_in_force():
    pipe, call = wan_i2v()
    alignvid.attach(pipe, "generic")
    attached = generate(pipe, call)
    with pytest.raises(AttachmentError, match=r"already attached to, with generic:generic.*alignvid.detach"):
        alignvid.attach(pipe, EVERYTHING)
    assert torch.equal(generate(pipe, call), attached)


def test_a_pipeline_whose_second_transformer_is_attached_is_refused_whole():
    pipe, _ = wan22_i2v()
    alignvid.attach(pipe.transformer_2)
    before = snapshot(pipe)
    with pytest.raises(AttachmentError, match="transformer_2 is already attached"):
        alignvid.attach(pipe)
    assert snapshot(pipe) == before


def test_a_failure_while_installing_leaves_nothing_behind(monkeypatch):
    pipe, call = wan22_i2v()
    expected, before = generate(pipe, call), snapshot(pipe)
    from alignvid.attachment import in_force

    def fail_on_the_second(gate, install=in_force.install_gate):
        if gate.host.name == "transformer_2":
            raise KeyboardInterrupt
        install(gate)

    monkeypatch.setattr(in_force, "install_gate", fail_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        alignvid.attach(pipe)
    assert snapshot(pipe) == before
    assert torch.equal(generate(pipe, call), expected)


MISTAKES = {
    # what is asked of a Wan 2.1 image-to-video pipeline: error, value given, values allowed or what to do
    "block that does not exist": ({"blocks": [0, 3]}, UnknownTarget, "Block 3", "0 to 2", "Choose"),
    "stack that does not exist": ({"blocks": {"layers": [0]}}, UnknownTarget, "`layers`", "choose from blocks"),
    "stream that does not exist": ({"streams": ["audio"]}, UnknownTarget, "'audio'", "choose from image, text, video"),
    "target that does not exist": (
        {"streams": ["double.text"]},
        UnknownTarget,
        "'double.text'",
        "choose from cross.image, cross.text, self.video",
    ),
    "stream with a typo": ({"streams": "txt"}, UnknownTarget, "'txt'", "choose from image, text, video"),
    "stream that is no name": ({"streams": ["text", 1]}, UnknownTarget, "1 is not", "choose from cross.image"),
    "number in place of streams": ({"streams": 3}, UnknownTarget, "3 is not", "choose from cross.image"),
    "number in place of blocks": ({"blocks": 3}, ScheduleError, "3 is not", "write [0, 2]"),
    "no stream": ({"streams": []}, UnknownTarget, "empty", "choose from cross.image"),
    "window without a step": ({"steps": (0.3, 0.3)}, ScheduleError, "(0.3, 0.3)", "start must lie before its stop"),
    "window reversed": ({"steps": (0.5, 0.2)}, ScheduleError, "(0.5, 0.2)", "start must lie before its stop"),
    "number in place of a window": ({"steps": 0.3}, ScheduleError, "0.3 is not", "write (0.0, 0.3)"),
    "window beyond the run": ({"steps": (0.0, 1.3)}, ScheduleError, "(0.0, 1.3)", "within 0.0 and 1.0"),
    "gamma of zero": ({"gamma": 0.0}, ModulationError, "0.0", "finite positive", "1.35"),
    "gamma below zero": ({"gamma": -1.35}, ModulationError, "-1.35", "finite positive", "1.35"),
    "gamma as text": ({"gamma": "1.35"}, ModulationError, "'1.35'", "finite positive"),
    "gamma that is no number": ({"gamma": float("nan")}, ModulationError, "nan", "finite positive", "1.35"),
    "branch that does not exist": ({"branch": "negative"}, RecipeError, "'negative'", "both, cond, uncond"),
    "preset that does not exist": ({"preset_or_recipe": "wan3"}, UnknownPreset, "'wan3'", "choose from", "wan2.1-i2v"),
    "reading that does not exist": (
        {"preset_or_recipe": "wan2.1-i2v-14b:mine"},
        UnknownPreset,
        "'mine'",
        "choose from released, paper",
    ),
    "preset of another family": (
        {"preset_or_recipe": "framepack"},
        UnknownPreset,
        "framepack:released",
        "WanTransformer3DModel is of wan",
        "name 'generic'",
    ),
    "preset of a larger model": ({"preset_or_recipe": "wan2.1-i2v-14b"}, UnknownTarget, "Block 3", "0 to 2", "Choose"),
    "neither preset nor recipe": ({"preset_or_recipe": 7}, UnknownPreset, "7", "choose from", "generic"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_a_remedy_and_leaves_the_model_untouched(mistake):
    arguments, error, *said = MISTAKES[mistake]
    pipe, _ = wan_i2v()
    before = snapshot(pipe)
    with pytest.raises(error) as caught:
        alignvid.attach(pipe, **arguments)
    assert [words for words in said if words not in str(caught.value)] == []
    assert snapshot(pipe) == before


def test_a_model_of_no_family_is_refused_with_the_way_to_those_that_are_supported():
    with pytest.raises(UnsupportedModel, match=r"Linear is not supported; nearest among the \d+ .*`alignvid models`"):
        alignvid.attach(nn.Linear(2, 2))


def test_what_is_no_model_is_refused():
    with pytest.raises(UnsupportedModel, match="str is neither a diffusers pipeline nor a transformer"):
        alignvid.attach("wan")


def test_a_class_in_place_of_a_pipeline_is_refused():
    with pytest.raises(
        UnsupportedModel, match="DDPMPipeline is a class; pass a model, as its from_pretrained gives it"
    ):
        alignvid.attach(DDPMPipeline)


def test_a_pipeline_without_a_transformer_is_refused_as_unsupported():
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    with pytest.raises(UnsupportedModel, match=r"DDPMPipeline has no transformer.*`alignvid models` lists"):
        alignvid.attach(DDPMPipeline(unet, DDPMScheduler()))


def test_a_pipeline_whose_transformer_is_not_loaded_is_refused():
    pipe, _ = wan_t2v()
    pipe.transformer = None
    with pytest.raises(AttachmentError, match=r"WanPipeline has no transformer loaded .* load it, then attach"):
        alignvid.attach(pipe)


def test_a_transformer_without_weights_is_refused():
    with torch.device("meta"):
        transformer = WanTransformer3DModel(**WAN_TRANSFORMER)
    with pytest.raises(AttachmentError, match=r"transformer has no weights yet.*meta device.*load them, then attach"):
        alignvid.attach(transformer)


def test_a_gain_of_a_hundred_is_allowed_with_a_warning():
    pipe, call = wan_t2v()
    with pytest.warns(UserWarning, match="gamma 100 .* the paper uses 1.35"):
        alignvid.attach(pipe, "generic", gamma=100.0)
    assert generate(pipe, call).isfinite().all()


def test_a_saved_pipeline_is_clean(tmp_path):
    pipe, call = hunyuan_t2v()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, EVERYTHING):
        pipe.save_pretrained(tmp_path)
    absent = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    loaded = DiffusionPipeline.from_pretrained(tmp_path, **dict.fromkeys(absent))
    never_attached = hunyuan_t2v()[0]
    assert loaded.transformer.config["_class_name"] == "HunyuanVideoTransformer3DModel"
    assert kinds_and_attributes(loaded) == kinds_and_attributes(never_attached)
    assert torch.equal(generate(loaded, call), expected)


def test_a_copy_of_an_attached_pipeline_is_attached_and_detaches_alone():
    pipe, call = wan22_i2v()
    expected = generate(pipe, call)
    alignvid.attach(pipe, EVERYTHING)
    attached = generate(pipe, call)
    copied = copy.deepcopy(pipe)
    assert torch.equal(generate(copied, call), attached)
    alignvid.detach(copied)
    assert torch.equal(generate(copied, call), expected)
    assert torch.equal(generate(pipe, call), attached)


def test_two_pipelines_in_two_threads_do_not_disturb_each_other():
    jobs = [(*wan_t2v(), {"gamma": 1.35, "branch": "cond"}), (*wan_t2v(), {"gamma": 2.0, "branch": "uncond"})]
    both_running = threading.Barrier(len(jobs))

    def run(pipe: Any, call: dict[str, Any], options: dict[str, Any], wait: Any = None) -> torch.Tensor:
        def meet(*_: Any) -> dict:
            if wait is not None:
                wait()
            return {}

        with alignvid.attach(pipe, EVERYTHING, steps=(0.0, 0.5), **options):
            return generate(pipe, call, num_inference_steps=12, callback_on_step_end=meet)

    alone = [run(*job) for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        together = list(threads.map(lambda job: run(*job, wait=lambda: both_running.wait(timeout=60)), jobs))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert not torch.equal(*alone)
