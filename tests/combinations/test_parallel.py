"""Several processes. Context parallelism is right where all keys of a norm have one gain, and refused where a part of a
sequence is not enough; weights may lie in parts anywhere (FSDP2).

Two processes run every case once, for all slow tests; what is refused without a run needs one process, which believes
that there is a second. Ring attention does not run on a CPU: diffusers needs a log-sum-exp there that its native
backend does not give.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

import alignvid
from alignvid import BlockSet, Energy, Recipe, Scalar, StepWindow
from alignvid.errors import AttachmentError, ObservationError
from five import BUILDERS, RECIPE
from pipelines import generate
from two_processes import Case, run_in_two, split_tokens, split_weights

ROUNDING = 1e-5  # each process adds up in another order than one does
FIRST_HALF = StepWindow.fraction(0.0, 0.5)


def recipe(**powers: float) -> Recipe:
    targets = {name.replace("__", "."): power for name, power in powers.items()}
    return Recipe(Scalar(1.35, targets), BlockSet.of("all"), FIRST_HALF)


WHOLE_NORMS = {
    "wan_i2v": RECIPE,  # text and image keys are not split, and the video's have one gain
    "flux_kontext": recipe(double__text=2.0, double__video=1.0, double__image=1.0),
    "qwen_image_edit": RECIPE,
}
PARTS_OF_NORMS = {
    "flux_kontext": (RECIPE, "single.text, single.video, single.image", "single.*"),
    "qwen_image_edit": (recipe(double__image=1.0), "double.image", "double.*"),
    "wan22_ti2v_5b": (recipe(self__image=1.0), "self.image", "self.*"),
}
ENERGY = Recipe(Energy(1.35, powers={"*.text": 1.0}), BlockSet.of("all"), FIRST_HALF)

WHEN = {"attached first": True, "attached afterwards": False}
CASES = {
    f"{name}, {kind}, {when}": Case(name, recipe, is_first, split_weights if kind == "weights" else split_tokens)
    for kind, recipes in {
        "whole norms": WHOLE_NORMS,
        "parts of norms": {name: given for name, (given, _, _) in PARTS_OF_NORMS.items()},
        "energy": {"wan_i2v": ENERGY},
        "weights": {"wan_i2v": RECIPE},
    }.items()
    for name, recipe in recipes.items()
    for when, is_first in WHEN.items()
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict[str, Any]]:
    return run_in_two(CASES, tmp_path_factory.mktemp("two"))


@pytest.fixture
def believed_two() -> Iterator[None]:
    """A process group of torch's own in which nothing is sent; enough until the first attention."""
    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.combines
@pytest.mark.parametrize("combination", ["context parallelism, Ulysses"])
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", WHOLE_NORMS)
def test_two_processes_give_what_one_gives_where_each_norm_has_one_gain(
    found, name, when, combination, record_property
):
    case = found[f"{name}, whole norms, {when}"]
    assert case["difference"] <= ROUNDING
    assert case["difference after detaching"] <= ROUNDING
    assert case["effect"] > 100 * ROUNDING
    record_property("pipeline", type(BUILDERS[name]()[0]).__name__)


@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", PARTS_OF_NORMS)
def test_a_stream_that_shares_a_norm_is_refused_with_what_works(found, name, when):
    _, streams, remedy = PARTS_OF_NORMS[name]
    case = found[f"{name}, parts of norms, {when}"]
    assert case["refusal"] == (
        "The transformer runs with context parallelism, where each process holds a part of every sequence: the tokens "
        f"of {streams} cannot be distinguished from others under the same key norm. Give all of a norm one gain, such "
        f"as streams=['{remedy}'], choose streams with a norm of their own, or leave enable_parallelism out."
    )
    assert case["difference after detaching"] <= ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
def test_a_modulation_that_looks_at_the_whole_sequence_is_refused(found, when):
    case = found[f"wan_i2v, energy, {when}"]
    assert "a modulation of kind 'energy' needs the whole. Use a scalar one" in case["refusal"]
    assert case["difference after detaching"] <= ROUNDING


@pytest.mark.slow
@pytest.mark.combines
@pytest.mark.parametrize("combination", ["FSDP2"])
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", ["wan_i2v"])
def test_weights_shared_out_among_two_processes_give_what_one_gives(found, name, when, combination, record_property):
    case = found[f"{name}, weights, {when}"]
    assert case["difference"] <= ROUNDING
    assert case["difference after detaching"] <= ROUNDING
    assert case["effect"] > 100 * ROUNDING
    record_property("pipeline", type(BUILDERS[name]()[0]).__name__)


@pytest.mark.usefixtures("believed_two")
@pytest.mark.parametrize("name", PARTS_OF_NORMS)
def test_a_part_of_a_sequence_is_refused_before_anything_is_touched(name):
    pipe, _ = BUILDERS[name]()
    split_tokens(pipe)
    plain = type(pipe.transformer)
    with pytest.raises(AttachmentError, match=r"context parallelism, .* cannot be distinguished from others"):
        alignvid.attach(pipe, PARTS_OF_NORMS[name][0])
    assert type(pipe.transformer) is plain


@pytest.mark.usefixtures("believed_two")
def test_a_model_that_is_split_after_attaching_is_refused_at_its_next_forward():
    pipe, call = BUILDERS["flux_kontext"]()
    attachment = alignvid.attach(pipe, RECIPE)
    split_tokens(pipe)
    with pytest.raises(AttachmentError, match="leave enable_parallelism out"):
        generate(pipe, call)
    assert attachment.forward_count == 0


@pytest.mark.usefixtures("believed_two")
def test_a_split_model_cannot_be_observed():
    pipe, _ = BUILDERS["wan_i2v"]()
    split_tokens(pipe)
    with pytest.raises(ObservationError, match=r"context parallelism.*observe a pipeline on which enable_parallelism"):
        alignvid.observe(pipe)
