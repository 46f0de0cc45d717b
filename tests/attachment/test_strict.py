"""Wherever a gain does not act as its recipe says, that is a warning; with strict=True each of them is an error."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.errors import ContractError, ContractWarning
from alignvid.host.contract import Contract, Kind
from alignvid.miniature import load_pipeline
from alignvid.miniature.batches import batched
from alignvid.miniature.drawing import HEIGHT, WIDTH
from alignvid.modulation import Painter
from image_pipelines import flux
from pipelines import framepack_f1, generate, wan_i2v, wan_t2v
from reading_pipelines import BUILDERS as READING
from registry import BUILDERS

TESTS = Path(__file__).parents[1]
ROOMS = ("attachment", "host")
SOURCE = Path(alignvid.__file__).parent
RECIPE = Recipe(Scalar(1.5, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.all())
LATE = Recipe(Scalar(1.5, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.fraction(0.5, 1.0))


def with_another(strict: bool) -> tuple[DiffusionPipeline, dict[str, Any], alignvid.Attachment]:
    """Attached, run, and then given another transformer."""
    pipe, call = wan_t2v()
    attachment = alignvid.attach(pipe, RECIPE, strict=strict)
    generate(pipe, call, num_inference_steps=1)
    pipe.transformer = copy.deepcopy(pipe.transformer)
    return pipe, call, attachment


def extreme_gain(strict: bool) -> None:
    alignvid.attach(wan_t2v()[0], RECIPE, gamma=100.0, strict=strict)


def gains_that_are_extreme_together(strict: bool) -> None:
    single = Recipe(Scalar(4.0, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.all())
    alignvid.attach(wan_t2v()[0], Recipe(single.modulation, single.blocks, single.steps, then=(single,)), strict=strict)


def earlier_attachment(strict: bool) -> None:
    alignvid.attach(with_another(False)[0], RECIPE, strict=strict)


class ForeignProcessor:
    """Of this test's module, and never run."""

    def __call__(self, attn: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def foreign_processor(strict: bool) -> None:
    pipe, _ = flux()
    for block in pipe.transformer.transformer_blocks:
        block.attn.processor = ForeignProcessor()
    alignvid.attach(pipe, streams=["double.text"], strict=strict)


def nothing_multiplied(strict: bool) -> None:
    pipe, call = wan_t2v()
    given: list[Any] = []
    pipe.transformer.register_forward_hook(lambda _, args, output: given.append(output))
    generate(pipe, call, num_inference_steps=1)
    alignvid.attach(pipe, RECIPE, strict=strict)
    pipe.transformer.forward = lambda *args, **kwargs: given[0]
    generate(pipe, call, num_inference_steps=2)


def idle_attentions(strict: bool) -> None:
    pipe, call = wan_t2v()
    alignvid.attach(pipe, RECIPE, strict=strict)
    pipe.transformer.blocks[1].forward = lambda hidden_states, *args, **more: hidden_states
    generate(pipe, call, num_inference_steps=2)


def skipped_blocks(strict: bool) -> None:
    pipe, call = wan_t2v()
    alignvid.attach(pipe, LATE, strict=strict)

    def skip(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe.transformer.blocks[1].forward = lambda hidden_states, *args, **more: hidden_states
        return kwargs

    generate(pipe, call, num_inference_steps=2, callback_on_step_end=skip)


def unknown_vision_tokens(strict: bool) -> None:
    pipe, call = {builder.__name__: builder for builder in READING}["qwen_image_edit_reading"]()
    with torch.no_grad():
        resized = pipe.image_processor.resize(call["image"], 32, 64)
        embeds = pipe.encode_prompt(prompt=call["prompt"], image=resized, device=torch.device("cpu"))[0]
    given = {"prompt_embeds": embeds, "prompt_embeds_mask": torch.ones(embeds.shape[:2], dtype=torch.long)}
    call = {name: value for name, value in call.items() if "prompt" not in name}
    with alignvid.attach(pipe, streams=["text"], steps="all", strict=strict):  # the encoder is shared, with its hooks
        generate(pipe, call | given | {"true_cfg_scale": 1.0})


def empty_streams(strict: bool) -> None:
    pipe, call = BUILDERS["flux2"]()
    alignvid.attach(pipe, streams=["image"], strict=strict)
    generate(pipe, call)


def empty_reference(strict: bool) -> None:
    pipe, call = BUILDERS["hunyuan15_t2v"]()
    alignvid.attach(pipe, Painter(), strict=strict)
    generate(pipe, call)


def mixed_streams(strict: bool) -> None:
    pipe, call = wan_i2v()
    embeds = {name: value[:, :1].repeat(1, 500, 1) for name, value in call.items() if name.endswith("prompt_embeds")}
    alignvid.attach(pipe, streams=["text"], strict=strict)
    generate(pipe, call | embeds, max_sequence_length=500)


def missing_words(strict: bool) -> None:
    pipe = load_pipeline()
    prompts = ["add a green circle at the top left", "add a red square at the bottom right"]
    with alignvid.attach(pipe, gamma=1.0, words={"green": 2.0}, strict=strict):
        pictures = [Image.new("RGB", (WIDTH, HEIGHT), "white")] * 2
        batched(pipe).generate(pictures, prompts, [0, 0], steps=1, guidance=1.0)


@torch.no_grad()
def assumed_fraction(strict: bool) -> None:
    transformer = wan_t2v()[0].transformer
    alignvid.attach(transformer, RECIPE, steps=(0.0, 0.3), strict=strict)
    transformer(
        torch.randn(1, 16, 1, 2, 2), timestep=torch.tensor([999.0]), encoder_hidden_states=torch.randn(1, 8, 32)
    )


def unknown_fraction(strict: bool) -> None:
    pipe, call = BUILDERS["qwen_image"]()
    other = type(pipe)(**pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)})
    alignvid.attach(pipe, "generic", steps=(0.25, 0.75), strict=strict)
    generate(pipe, call, num_inference_steps=4)
    generate(other, call, num_inference_steps=7)


def unknown_branch(strict: bool) -> None:
    pipe, call = framepack_f1()
    alignvid.attach(pipe, "generic", steps="all", branch="cond", strict=strict)
    given: list[dict[str, Any]] = []
    pipe.transformer.register_forward_pre_hook(lambda _, args, kwargs: given.append(kwargs), with_kwargs=True)

    def look(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe.transformer(**given[0] | {"encoder_hidden_states": torch.randn(1, 20, 16)})
        return kwargs

    generate(pipe, call, num_inference_steps=2, callback_on_step_end=look)


def unknown_guidance(strict: bool) -> None:
    pipe, call = framepack_f1()
    alignvid.attach(pipe, follow=0.5, strict=strict)
    generate(pipe, call, num_inference_steps=1, true_cfg_scale=2.0)


def another_transformer(strict: bool) -> None:
    pipe, call, _ = with_another(strict)
    generate(pipe, call, num_inference_steps=1)


def detached_late(strict: bool) -> None:
    alignvid.detach(with_another(strict)[0])


CASES: list[tuple[Kind, Callable[[bool], None], str]] = [
    ("extreme gain", extreme_gain, r"gamma 100 multiplies attention logits by up to 100"),
    ("extreme gain", gains_that_are_extreme_together, r"gamma 4 and 4 multiplies attention logits by up to 16"),
    ("earlier attachment", earlier_attachment, "is in force on a transformer that this pipeline has no longer"),
    ("foreign processor", foreign_processor, "run ForeignProcessor of .*, which is not diffusers'"),
    ("nothing multiplied", nothing_multiplied, "multiplied nothing, for none of the 3 attentions"),
    ("idle attentions", idle_attentions, r"1 of the 3 attentions .* did not run .*: blocks\.1\.cross\."),
    ("skipped blocks", skipped_blocks, "2 of 3 key norms ran: something leaves blocks out"),
    ("unknown vision tokens", unknown_vision_tokens, "Which tokens of the prompt are a picture's is not known"),
    ("empty streams", empty_streams, "image has no tokens in this call"),
    ("empty reference", empty_reference, "the input of the transformer are all zero in this call"),
    ("mixed streams", mixed_streams, "The prompt has 500 tokens beside those of an image"),
    ("missing words", missing_words, "Of the 2 prompts in this batch, 1 have none of the words green"),
    ("assumed fraction", assumed_fraction, "the fraction of steps done is taken as 1 - noise level"),
    ("unknown fraction", unknown_fraction, "it is not known whether it lies within"),
    ("unknown branch", unknown_branch, "Which branch of guidance a forward of .* is .* not known"),
    ("unknown guidance", unknown_guidance, "has guidance, whose scale is not known here: the gain acts as without"),
    ("another transformer", another_transformer, "does not act in this run: it runs another WanTransformer3DModel"),
    ("detached late", detached_late, "acts no longer: the pipeline's `transformer` is another one"),
]
NAMES = [case.__name__ for _, case, _ in CASES]


def test_attentions_that_are_idle_in_a_run_of_one_step_are_named_on_detaching():
    """Other passes of that step might have run them, so that it is not known before."""
    pipe, call = wan_t2v()
    attachment = alignvid.attach(pipe, RECIPE)
    pipe.transformer.blocks[1].forward = lambda hidden_states, *args, **more: hidden_states
    generate(pipe, call, num_inference_steps=1)
    assert "acts in part: 1 of the 3 attentions" in str(attachment)
    with pytest.warns(UserWarning, match=r"acts in part: .* did not run .*: blocks\.1\.cross\."):
        attachment.detach()


@pytest.mark.parametrize(("kind", "case", "words"), CASES, ids=NAMES)
@pytest.mark.contract(
    "acted",
    done="`strict=True`, in each of the cases that are warned of",
    refused="an error in place of the warning",
)
def test_what_is_warned_of_is_an_error_where_strict(kind, case, words):
    with pytest.raises(ContractError, match=words):
        case(True)


@pytest.mark.parametrize(("kind", "case", "words"), CASES, ids=NAMES)
def test_each_kind_is_a_warning_at_a_line_of_the_user_s(kind, case, words):
    with pytest.warns(ContractWarning, match=words) as caught:
        case(False)
    found = [item for item in caught if isinstance(item.message, ContractWarning)]
    assert all(Path(item.filename).is_relative_to(TESTS) for item in found)


def test_every_kind_has_a_case():
    assert {kind for kind, _, _ in CASES} == set(get_args(Kind))


def test_every_kind_is_warned_of_somewhere_and_nothing_but_the_contract_warns():
    kinds, others = set(), []
    for path in (path for room in ROOMS for path in (SOURCE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.endswith("contract.warn"):
                kinds.add(ast.literal_eval(node.args[0]))
            elif called.startswith("warnings.") or called.endswith(("logger.warning", "warn_explicit")):
                others.append((path.name, called))
    assert kinds == set(get_args(Kind))
    assert others == [("contract.py", "warnings.warn_explicit")]


def test_a_strict_error_in_a_run_leaves_a_model_that_can_be_detached():
    pipe, call = wan_t2v()
    plain = generate(pipe, call)
    attachment = alignvid.attach(pipe, LATE, strict=True)
    blocks = pipe.transformer.blocks
    blocks[1].forward = lambda hidden_states, *args, **more: hidden_states

    def heal(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        vars(blocks[1]).pop("forward", None)
        vars(blocks[0])["forward"] = lambda hidden_states, *args, **more: hidden_states
        vars(blocks[2])["forward"] = lambda hidden_states, *args, **more: hidden_states
        return kwargs

    with pytest.raises(ContractError, match="leaves blocks out"):
        generate(pipe, call, callback_on_step_end=heal)
    for block in blocks:
        vars(block).pop("forward", None)
    assert attachment.is_attached and "leaves blocks out" in attachment.warnings[0]
    generate(pipe, call)
    attachment.detach()
    assert torch.equal(generate(pipe, call), plain)


def test_a_strict_attachment_that_raises_is_off_the_model():
    pipe, call = wan_t2v()
    plain = generate(pipe, call)
    with pytest.raises(ContractError):
        alignvid.attach(pipe, RECIPE, gamma=100.0, strict=True)
    assert torch.equal(generate(pipe, call), plain)
    other, _, attachment = with_another(True)
    with pytest.raises(ContractError):
        attachment.detach()
    assert not attachment.is_attached and type(other).__mro__[0] is type(pipe)


def test_an_error_inside_the_with_block_is_not_hidden_by_a_strict_one():
    attachment = with_another(True)[2]
    with pytest.raises(ZeroDivisionError), attachment:
        raise ZeroDivisionError
    assert not attachment.is_attached


def test_a_copy_of_a_pipeline_is_as_strict():
    pipe, call = wan_t2v()
    alignvid.attach(pipe, RECIPE, strict=True)
    copied = copy.deepcopy(pipe)
    generate(copied, call, num_inference_steps=1)
    copied.transformer = copy.deepcopy(copied.transformer)
    with pytest.raises(ContractError, match="does not act in this run"):
        generate(copied, call, num_inference_steps=1)


def test_what_was_warned_of_in_one_run_is_warned_of_in_the_next_with_python_s_own_filters():
    script = (
        "from alignvid.host.contract import Contract\n"
        "contract = Contract()\n"
        "for run in (1, 1, 2):\n"
        "    contract.warn('empty streams', 'Nothing is modulated.', once_in=run)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.count("Nothing is modulated.") == 2


def test_the_last_sentence_of_each_kind_is_kept():
    contract = Contract()
    with warnings.catch_warnings(action="ignore"):
        for run in range(3):
            contract.warn("empty streams", f"Run {run}.", once_in=run)
        contract.warn("extreme gain", "Much.")
    assert contract.said == {"empty streams": "Run 2.", "extreme gain": "Much."}
