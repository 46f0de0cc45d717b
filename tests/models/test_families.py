"""What holds for every family, on every tiny pipeline; docs/models.md is written from what passed here."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

import alignvid
from alignvid import Recipe, Scalar, StepWindow
from alignvid.models import families, hosts
from alignvid.models.exercised import model_table, recorded
from alignvid.placement import refusals_of, targets_of
from alignvid.recipe import Branch
from pipelines import generate
from recording import OPTION
from registry import BUILDERS, by_name

EVERYTHING = Recipe(Scalar(1.35, {"*.*": 1.0}), alignvid.BlockSet.of("all"), StepWindow.all())


WITHOUT_TOKENS = {  # these pipelines can be given references, and here are not; or not in their first chunk
    "cosmos25_transfer": ("self.image",),
    "flux2": ("double.image", "single.image"),
    "cosmos25_t2w": ("self.image",),
    "kandinsky6_t2v": ("self.image", "video_to_audio.image"),
}


BESIDES_STEPS = {"anyflow_far": 1}  # forwards of a run that belong to no step: they compute keys to be kept


class Run(NamedTuple):
    """A pipeline, its call, and what it makes of it without alignvid."""

    pipe: DiffusionPipeline
    call: dict[str, Any]
    made: Tensor


def made_by(pipe: DiffusionPipeline, call: dict[str, Any]) -> Tensor:
    torch.manual_seed(0)  # some pipelines encode their pictures without the generator
    return generate(pipe, call)


@pytest.fixture(scope="module", params=by_name(BUILDERS))
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
def test_each_of_its_targets_alone_changes_the_output(name, run):
    host = hosts(run.pipe)[0]
    for target in set(targets_of(host, run.pipe)) - set(WITHOUT_TOKENS.get(name, ())):
        recipe = Recipe(Scalar(1.35, {target: 1.0}), alignvid.BlockSet.of("all"), StepWindow.all())
        with alignvid.attach(run.pipe, recipe):
            assert not torch.equal(made_by(run.pipe, run.call), run.made), target


@pytest.mark.parametrize("name", WITHOUT_TOKENS)
def test_a_stream_without_tokens_is_told(name):
    pipe, call = BUILDERS[name]()
    with alignvid.attach(pipe, streams=["image"]), pytest.warns(UserWarning, match="image has no tokens in this call"):
        generate(pipe, call)


@pytest.mark.exercises("step window")
def test_the_first_step_alone_is_modulated_in_all_of_its_passes(name, run):
    steps = run.call["num_inference_steps"]
    with alignvid.attach(run.pipe, EVERYTHING, steps=(0.0, 0.3)) as attachment:
        made_by(run.pipe, run.call)
    assert attachment.active_forward_count * steps == attachment.forward_count - BESIDES_STEPS.get(name, 0)


@pytest.mark.exercises("detach")
def test_detaching_restores_the_output_bit_for_bit(name, run):
    alignvid.attach(run.pipe, EVERYTHING)
    alignvid.detach(run.pipe)
    assert torch.equal(made_by(run.pipe, run.call), run.made)


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
    }
    for fact, value in facts.items():
        record_property(fact, value)
    if not pytestconfig.getoption(OPTION):
        assert facts.items() <= recorded()[name].items(), f"stale: pytest tests/models {OPTION}"


def test_every_pipeline_that_a_family_names_was_run(pytestconfig):
    if pytestconfig.getoption(OPTION):
        pytest.skip("the record is being written")
    assert [facts.pipeline for facts in model_table(families().values()) if "runs" not in facts.exercised] == []


def is_conditional(arguments: list[Any], call: dict[str, Any]) -> list[bool]:
    """Whether each sample of a forward was given the prompt, not the negative one: told by the texts themselves."""
    prompt, negative = (_texts(call[name]) for name in _text_names(call))
    for value in arguments:
        samples = _texts(value)
        told = [_is_one_of(sample, prompt) for sample in samples]
        if samples and all(one or _is_one_of(sample, negative) for one, sample in zip(told, samples, strict=True)):
            return told
    raise AssertionError("No argument of this forward is the prompt or the negative one.")


def _text_names(call: dict[str, Any]) -> tuple[str, str]:
    name = next(name for name in ("prompt_embeds", "prompt_embeds_t5") if name in call)
    return name, f"negative_{name}"


def _texts(value: Any) -> list[Tensor]:
    return [one for one in value if isinstance(one, Tensor)] if isinstance(value, Tensor | list) else []


def _is_one_of(text: Tensor, others: list[Tensor]) -> bool:
    return any(text.shape == other.shape and torch.equal(text, other) for other in others)


GUIDED = {
    # pipeline: samples of a forward, which of them are given the prompt, forward by forward of one step
    "flux2_klein": [[True], [False]],
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
    "hunyuan_dit": [[False, True]],
    "glm_image": [[True], [False]],
    "krea2": [[True], [False]],
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


class Pass(NamedTuple):
    """One forward: which samples were given the prompt, and what left the first key norm that is acted on."""

    is_conditional: list[bool]
    keys: list[Tensor]


def first_step(name: str, gamma: float, branch: Branch) -> list[Pass]:
    pipe, call = BUILDERS[name]()
    seen: list[Pass] = []

    def begin(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(Pass(is_conditional([*args, *kwargs.values()], call), []))

    with alignvid.attach(pipe, streams=["text"], steps="all", gamma=gamma, branch=branch) as attachment:
        norm = attachment.placements["transformer"][0].location.norm
        norm.register_forward_hook(lambda _, args, output: seen[-1].keys.append(output.clone()))
        pipe.transformer.register_forward_pre_hook(begin, with_kwargs=True)
        made_by(pipe, call)
    return seen[: len(GUIDED[name])]


@pytest.mark.exercises("CFG branch")
@pytest.mark.parametrize("name", GUIDED)
def test_only_the_chosen_branch_is_modulated(name):
    plain = first_step(name, 1.0, "both")
    assert [seen.is_conditional for seen in plain] == GUIDED[name]
    for branch, is_wanted in (("cond", True), ("uncond", False)):
        for acted, before in zip(first_step(name, 1.35, branch), plain, strict=True):
            differs = [not torch.equal(*pair) for pair in zip(acted.keys[0], before.keys[0], strict=True)]
            assert differs == [given == is_wanted for given in acted.is_conditional]
