"""What holds for every family, on every tiny pipeline; docs/models.md is written from what passed here."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

import alignvid
from alignvid import Recipe, Scalar, StepWindow, presets
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host import hosts
from alignvid.host.sites import refusals_of, targets_of
from alignvid.models import Family, families
from alignvid.models.evidence import model_table, recorded
from alignvid.recipe import Branch
from pipelines import generate, other_prompt
from recording import OPTION
from registry import BUILDERS, by_name, every_third

EVERYTHING = Recipe(Scalar(1.35, {"*.*": 1.0}), alignvid.BlockSet.of("all"), StepWindow.all())


WITHOUT_TOKENS = {  # these pipelines can be given references, and here are not; or not in one of their chunks
    "cosmos25_transfer": ("self.image",),
    "flux2": ("double.image", "single.image"),
    "flux3": ("single.image",),
    "bria_fibo2": ("single.image",),
    "cosmos25_t2w": ("self.image",),
    "cosmos3_t2v": ("double.image",),
    "ltx_long_multi_prompt": ("self.image",),
    "visual_cloze": ("double.image", "single.image"),  # not in the second part, which enlarges the picture
    "kandinsky6_t2v": ("self.image", "video_to_audio.image"),
}


BESIDES_STEPS = {  # forwards of a run beyond those of its steps
    "anyflow_far": 1,  # it computes keys to be kept
    "wan_animate2": 1,  # it computes keys to be kept
    "anima_img2img": -4,  # it leaves out two steps of four, two passes each
    "sana_wm_refiner": 3,  # they compute keys to be kept
    "minimax_h3_fl2v": -1,  # its scheduler makes one step less than it is asked for
}


class Run(NamedTuple):
    """A pipeline, its call, and what it makes of it without alignvid."""

    pipe: DiffusionPipeline
    call: dict[str, Any]
    made: Tensor


def steps_of(call: dict[str, Any]) -> int:
    """Steps of a run, or of one of its sections; a pyramid is given those of each stage."""
    if "sigmas" in call:
        return sum(sigma > 0.0 for sigma in call["sigmas"])
    stages = call.get("pyramid_num_inference_steps_list", [3])  # SANA-WM's refiner has three steps, and is given none
    return call.get("num_inference_steps") or sum(stages)


def made_by(pipe: DiffusionPipeline, call: dict[str, Any]) -> Tensor:
    torch.manual_seed(0)  # some pipelines encode their pictures without the generator
    return generate(pipe, call)


@pytest.fixture(
    scope="module",
    params=every_third(BUILDERS),
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def run(name) -> Run:
    pipe, call = BUILDERS[name]()
    return Run(pipe, call, made_by(pipe, call))


@pytest.mark.exercises("neutral gain")
def test_a_neutral_gain_is_bit_equal(name, run):
    with alignvid.attach(run.pipe, EVERYTHING, gamma=1.0) as attachment:
        assert torch.equal(made_by(run.pipe, run.call), run.made)
    assert attachment.acted_count > 0


@pytest.mark.exercises("gain")
def test_its_own_preset_changes_the_output_at_the_papers_gain(name, run):
    with alignvid.attach(run.pipe, gamma=1.35):
        assert not torch.equal(made_by(run.pipe, run.call), run.made)


@pytest.mark.exercises("every target")
def test_each_of_its_targets_alone_changes_the_output(name, run, request):
    if "explicit softmax" in recorded().get(name, {}).get("exercised", ()) and not request.config.getoption(
        "--run-slow"
    ):
        pytest.skip("its targets are compared with a softmax written out; add --run-slow")
    host = hosts(run.pipe)[0]
    for target in set(targets_of(host, run.pipe)) - set(WITHOUT_TOKENS.get(name, ())):
        recipe = Recipe(Scalar(1.35, {target: 1.0}), alignvid.BlockSet.of("all"), StepWindow.all())
        with alignvid.attach(run.pipe, recipe):
            assert not torch.equal(made_by(run.pipe, run.call), run.made), target


@pytest.mark.parametrize("name", WITHOUT_TOKENS)
def test_a_stream_without_tokens_is_warned_of(name):
    pipe, call = BUILDERS[name]()
    with alignvid.attach(pipe, streams=["image"]), pytest.warns(UserWarning, match="image has no tokens in this call"):
        generate(pipe, call)


def test_a_gain_on_keys_that_a_cache_keeps_is_refused_with_the_ways_out():
    pipe, call = BUILDERS["qwen_image21"]()
    with alignvid.attach(pipe), pytest.raises(AttachmentError, match=r"use_kv_cache=False, or .* streams=\['video'\]"):
        generate(pipe, call | {"use_kv_cache": True})
    plain = generate(pipe, call | {"use_kv_cache": True})
    with alignvid.attach(pipe, streams=["video"]):
        assert not torch.equal(generate(pipe, call | {"use_kv_cache": True}), plain)


@pytest.mark.exercises("step window")
def test_the_first_step_alone_is_modulated_in_all_of_its_passes(name, run):
    steps = steps_of(run.call)
    with alignvid.attach(run.pipe, EVERYTHING, steps=(0.0, 0.3)) as attachment:
        made_by(run.pipe, run.call)
    assert attachment.active_forward_count * steps == attachment.forward_count - BESIDES_STEPS.get(name, 0)


@pytest.mark.exercises("detach")
def test_detaching_restores_the_output_bit_for_bit(name, run):
    alignvid.attach(run.pipe, EVERYTHING)
    alignvid.detach(run.pipe)
    assert torch.equal(made_by(run.pipe, run.call), run.made)


def presets_that_attach(pipe: DiffusionPipeline, family: Family) -> list[str]:
    """Presets of its family that do not refuse it; a tiny model has not all of their blocks, so all that it has."""
    attached = []
    for name in presets.names():
        if presets.load(name).family == family.preset_family:
            with suppress(UnknownTarget), alignvid.attach(pipe, name, blocks="all"):
                attached.append(name)
    return attached


@pytest.mark.exercises("runs")
def test_what_is_recorded_of_it_is_what_it_is(name, run, record_property, pytestconfig):
    host = hosts(run.pipe)[0]
    assert type(run.pipe).__name__ in host.family.pipelines
    facts = {
        "pipeline": type(run.pipe).__name__,
        "family": host.family.name,
        "transformer": type(host.transformer).__name__,
        "targets": list(targets_of(host, run.pipe)),
        "refused": refusals_of(host, run.pipe),
        "presets": presets_that_attach(run.pipe, host.family),
    }
    for fact, value in facts.items():
        record_property(fact, value)
    if not pytestconfig.getoption(OPTION):
        assert facts.items() <= recorded()[name].items(), f"stale: pytest tests/models --run-slow {OPTION}"


def _with_pipelines():
    """Families of other libraries' classes have no pipeline of diffusers."""
    return [family for family in families().values() if family.pipelines]


def test_every_pipeline_that_a_family_names_was_run(pytestconfig):
    if pytestconfig.getoption(OPTION):
        pytest.skip("the record is being written")
    assert [facts.pipeline for facts in model_table(_with_pipelines()) if "runs" not in facts.exercised] == []


def arguments_of_first_step(pipe: DiffusionPipeline, call: dict[str, Any], forwards: int) -> list[list[Any]]:
    """What the transformer is given in the first forwards of a run."""
    seen: list[list[Any]] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append([*args, *kwargs.values()]), with_kwargs=True
    )
    made_by(pipe, call)
    handle.remove()
    return seen[:forwards]


def is_conditional(given: list[Any], given_another: list[Any]) -> list[bool]:
    """Whether each sample of a forward changes with the prompt."""
    pairs = [(_samples(one), _samples(other)) for one, other in zip(given, given_another, strict=True)]
    size = max(len(one) for one, _ in pairs)
    changed = [
        [not torch.equal(*pair) for pair in zip(one, other, strict=True)] for one, other in pairs if len(one) == size
    ]
    return [any(of_sample) for of_sample in zip(*changed, strict=True)]


def _samples(value: Any) -> list[Tensor]:
    return (
        [one for one in value if isinstance(one, Tensor)] if isinstance(value, Tensor | list) and len(value) < 4 else []
    )


GUIDED = {
    # pipeline: samples of a forward, which of them are given the prompt, forward by forward of one step
    "flux2_klein": [[True], [False]],
    "flux3_edit": [[True], [False]],
    "qwen_image_edit": [[True], [False]],
    "sd3": [[False, True]],
    "sd35": [[False, True]],
    "z_image": [[True, False]],
    "chroma": [[True], [False]],
    "lumina2": [[True], [False]],
    "hidream": [[False, True]],
    "sana": [[False, True]],
    "cogview4": [[True], [False]],
    "aura_flow": [[False, True]],
    "bria": [[False, True]],
    "z_image_controlnet": [[True, False]],
    "z_image_controlnet_inpaint": [[True, False]],
    "hunyuan_dit": [[False, True]],
    "hunyuan_dit_controlnet": [[False, True]],
    "glm_image": [[True], [False]],
    "krea2": [[True], [False]],
    "longcat_image_edit": [[True], [False]],
    "bria_fibo": [[False, True]],
    "hunyuan_image": [[True], [False]],
    "prx": [[False, True]],
    "joyimage_edit": [[True], [False]],
    "joyimage_edit_plus": [[False, True]],
    "ernie_image": [[False, True]],
    "nucleus_image": [[True], [False]],
    "qwen_image21": [[True], [False]],
    "bria_fibo2_edit": [[True], [False]],
    "cogview3": [[False, True]],
    "pixart_sigma": [[False, True]],
    "lumina_next": [[True, False]],
}


@pytest.mark.exercises("CFG branch")
@pytest.mark.parametrize("name", ["omnigen"])
@pytest.mark.parametrize(
    "changes", [{}, {"guidance_scale": 1.0}, {"prompt": ["a cat"] * 2, "input_images": None}], ids=str
)
def test_the_pass_with_pictures_and_no_prompt_is_an_unconditional_one(name, changes):
    """OmniGen's batch: the prompt, nothing, and the pictures alone where there are any."""
    pipe, call = BUILDERS[name]()
    is_cond = [True, True, False, False] if "prompt" in changes else [True, False, False]
    for branch in ("cond", "uncond"):
        acted = []
        with alignvid.attach(pipe, steps="all", branch=branch) as attachment:
            projection = attachment.placements["transformer"][0].location.norm
            plain = type(projection).__bases__[0].forward
            projection.register_forward_hook(
                lambda module, args, keys, plain=plain, acted=acted: acted.append(
                    [not torch.equal(*pair) for pair in zip(keys, plain(module, *args), strict=True)]
                )
            )
            made_by(pipe, call | changes)
        assert acted == [[given == (branch == "cond") for given in is_cond]] * call["num_inference_steps"]


@pytest.mark.exercises("CFG branch")
@pytest.mark.parametrize("name", by_name(GUIDED))
def test_only_the_chosen_branch_is_modulated(name):
    pipe, call = BUILDERS[name]()
    runs = [arguments_of_first_step(pipe, one, len(GUIDED[name])) for one in (call, other_prompt(call))]
    assert [is_conditional(*forwards) for forwards in zip(*runs, strict=True)] == GUIDED[name]
    plain = keys_of_first_step(pipe, call, 1.0, "both")
    for branch in ("cond", "uncond"):
        acted = keys_of_first_step(pipe, call, 1.35, branch)
        for keys, before, is_given in zip(acted, plain, GUIDED[name], strict=False):
            differs = [not torch.equal(*pair) for pair in zip(keys, before, strict=True)]
            assert differs == [given == (branch == "cond") for given in is_given]


@pytest.mark.exercises("CFG branch")
@pytest.mark.parametrize("name", by_name(["ideogram4", "ideogram4_modular"]))
@pytest.mark.parametrize(
    ("branch", "changed"), [("both", [True, True]), ("cond", [True, False]), ("uncond", [False, True])]
)
def test_a_transformer_for_the_unconditional_pass_is_that_pass(name, branch, changed):
    pipe, call = BUILDERS[name]()
    transformers = (pipe.transformer, pipe.unconditional_transformer)
    plain = [layer_of_first_step(pipe, call, transformer) for transformer in transformers]
    with alignvid.attach(pipe, streams=["video"], steps="all", branch=branch):
        acted = [layer_of_first_step(pipe, call, transformer) for transformer in transformers]
    assert [not torch.equal(*pair) for pair in zip(acted, plain, strict=True)] == changed


def layer_of_first_step(pipe: DiffusionPipeline, call: dict[str, Any], transformer: torch.nn.Module) -> Tensor:
    """What leaves the first block of a transformer in its first forward."""
    seen: list[Tensor] = []
    handle = transformer.layers[0].register_forward_hook(lambda _, args, output: seen.append(output.clone()))
    made_by(pipe, call)
    handle.remove()
    return seen[0]


def keys_of_first_step(pipe: DiffusionPipeline, call: dict[str, Any], gamma: float, branch: Branch) -> list[Tensor]:
    """What left the first key norm that is acted on, forward by forward."""
    seen: list[Tensor] = []
    with alignvid.attach(pipe, streams=["text"], steps="all", gamma=gamma, branch=branch) as attachment:
        norm = attachment.placements["transformer"][0].location.norm
        handle = norm.register_forward_hook(lambda _, args, output: seen.append(output.clone()))
        made_by(pipe, call)
        handle.remove()
    return seen
