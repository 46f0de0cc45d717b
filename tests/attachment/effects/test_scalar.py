from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models.normalization import FP32LayerNorm, RMSNorm
from torch.utils._python_dispatch import TorchDispatchMode

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.attachment.call import Call
from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.scalar import KeyGain
from alignvid.attachment.swap import install, remove
from alignvid.errors import AttachmentError
from pipelines import framepack_v1, generate, wan_i2v


class CountedOperations(TorchDispatchMode):
    """Counts the tensor operations that run inside the context, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[operation.overloadpacket.__name__] += 1
        return operation(*args, **kwargs or {})


def active(factors: list[float | None], streams: list[str], token_counts: dict[str, int], dim: int = 1) -> KeyGain:
    gain = KeyGain(factors, streams, dim)
    gain.now.set_token_counts(token_counts)
    gain.set_active(True)
    return gain


@contextmanager
def put_on(module: torch.nn.Module, gain: KeyGain) -> Iterator[None]:
    """The gain on a module, within a forward in which it is as it is now."""
    call = Call(gain, {gain: gain.now}, None)
    install(Installed(module, gain))
    call.enter()
    yield
    call.leave()
    remove(Installed(module, gain))


def test_two_keys_of_two_streams_get_the_softmax_that_is_worked_out_by_hand():
    keys = torch.tensor([[[1.0], [2.0]]])  # one sample, two tokens, size 1
    scaled = active([3.0, 0.5], ["text", "video"], {"text": 1}).scaled(keys)
    assert scaled.flatten().tolist() == [3.0, 1.0]
    weights = (2.0 * scaled[0]).T.softmax(-1)  # query 2: logits 6 and 2 instead of 2 and 4
    torch.testing.assert_close(weights, torch.tensor([[0.9820138, 0.0179862]]))  # e⁶ / (e⁶ + e²)


def test_an_inactive_gain_is_one():
    gain = KeyGain([3.0], ["text"], 1)
    keys = torch.randn(1, 4, 2)
    assert torch.equal(gain.scaled(keys), keys)
    gain.set_active(True)
    gain.set_active(False)
    assert torch.equal(gain.scaled(keys), keys)


def test_keys_may_lie_on_the_second_axis_after_the_heads():
    keys = torch.ones(1, 2, 3, 4)  # (batch, heads, tokens, size)
    scaled = active([2.0, None], ["text", "video"], {"text": 1}, dim=2).scaled(keys)
    assert scaled[0, 0, :, 0].tolist() == [2.0, 1.0, 1.0]


def test_a_stream_may_be_absent_from_one_forward():
    scaled = active([2.0, 3.0], ["history", "video"], {"history": 0}).scaled(torch.ones(1, 2, 1))
    assert scaled.flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize("counts", [{"text": 5}, {"text": 1, "video": 2}], ids=["more than there are", "fewer"])
def test_counts_that_do_not_fit_the_keys_are_refused(counts):
    gain = active([2.0, 3.0], ["text", "video"], counts)
    with pytest.raises(AttachmentError, match=r"4 keys cannot be split into \{'text': .*docs/families\.md"):
        gain.scaled(torch.ones(1, 4, 1))


def test_samples_of_a_batch_are_switched_on_their_own():
    gain = KeyGain([2.0], ["text"], 1)
    gain.set_active_samples([False, True])
    assert gain.scaled(torch.ones(2, 1, 1)).flatten().tolist() == [1.0, 2.0]


def test_frames_that_are_samples_of_their_own_share_the_switch_of_their_sample():
    """Latte attends within each frame: the batch is that of the frames, those of one sample together."""
    gain = KeyGain([2.0], ["text"], 1)
    gain.set_active_samples([False, True])
    assert gain.scaled(torch.ones(6, 1, 1)).flatten().tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("is_by_sample", [False, True])
def test_the_dtype_of_the_keys_stays(is_by_sample):
    gain = KeyGain([1.35], ["text"], 1)
    gain.set_active_samples([True]) if is_by_sample else gain.set_active(True)
    keys = torch.randn(1, 4, 2, dtype=torch.bfloat16)
    scaled = gain.scaled(keys)
    assert scaled.dtype == torch.bfloat16
    assert torch.equal(scaled, (keys.float() * 1.35).bfloat16())  # rounded once, not a gain of bf16's 1.3516


def test_a_norm_keeps_its_name_and_its_weights_and_comes_back_as_it_was():
    norm, gain = torch.nn.RMSNorm(4), active([2.0], ["text"], {})
    attributes, hidden = dict(vars(norm)), torch.randn(1, 3, 4)
    plain = norm(hidden)
    with put_on(norm, gain):
        assert torch.equal(norm(hidden), 2.0 * plain)
        assert repr(norm) == repr(torch.nn.RMSNorm(4))
        assert isinstance(norm, torch.nn.RMSNorm)
        assert list(norm.state_dict()) == ["weight"]
    assert type(norm) is torch.nn.RMSNorm
    assert vars(norm) == attributes
    assert torch.equal(norm(hidden), plain)


def test_a_forward_hook_of_the_user_sees_the_scaled_keys_and_stays():
    norm, gain, seen = torch.nn.RMSNorm(4), active([2.0], ["text"], {}), []
    norm.register_forward_hook(lambda module, args, output: seen.append(output))
    with put_on(norm, gain):
        scaled = norm(torch.randn(1, 3, 4))
    plain = norm(torch.randn(1, 3, 4))
    assert seen[0] is scaled
    assert seen[1] is plain


KINDS = {
    "torch's RMS norm": torch.nn.RMSNorm(4),
    "diffusers' RMS norm": RMSNorm(4, eps=1e-6),
    "RMS norm without weight": RMSNorm(4, eps=1e-6, elementwise_affine=False),
    "layer norm": torch.nn.LayerNorm(4),
    "layer norm in fp32": FP32LayerNorm(4),
    "projection": torch.nn.Linear(4, 4),
}


@pytest.mark.parametrize("is_by_sample", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_scaled_in_place_is_bit_equal_to_what_is_scaled_in_a_copy(kind, is_by_sample):
    norm = copy.deepcopy(KINDS[kind]).to(torch.bfloat16)
    gain = KeyGain([1.35, None, 0.7], ["text", "video", "image"], 1)
    gain.now.set_token_counts({"text": 2, "image": 1})
    gain.set_active_samples([False, True]) if is_by_sample else gain.set_active(True)
    hidden = torch.randn(2, 6, 4, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = gain.scaled(norm(hidden))
        with put_on(norm, gain), CountedOperations() as operations:
            actual = norm(hidden)
    assert torch.equal(actual, expected)
    assert not torch.equal(actual, KINDS[kind].to(torch.bfloat16)(hidden))
    assert operations.counts["mul_"] == 2  # the streams with a factor
    assert "cat" not in operations.counts


def test_a_gradient_passes_the_gain_as_it_passes_a_product():
    norm, gain = torch.nn.RMSNorm(4), active([2.0, None], ["text", "video"], {"text": 1})
    hidden, factors = torch.randn(1, 3, 4), torch.tensor([2.0, 1.0, 1.0]).view(1, 3, 1)
    (expected,) = torch.autograd.grad((norm(hidden.requires_grad_()) * factors).square().sum(), hidden)
    with put_on(norm, gain):
        (actual,) = torch.autograd.grad(norm(hidden).square().sum(), hidden)
    torch.testing.assert_close(actual, expected)


def test_a_neutral_norm_leaves_what_it_was_given_as_it_was():
    neutral, keys = torch.nn.Identity(), torch.ones(1, 3, 4)
    with put_on(neutral, active([2.0, None], ["text", "video"], {"text": 1})):
        assert neutral(keys)[0, :, 0].tolist() == [2.0, 1.0, 1.0]
    assert torch.equal(keys, torch.ones(1, 3, 4))


def test_a_norm_that_somebody_made_remember_its_output_is_scaled_once_each_time():
    norm, hidden = torch.nn.RMSNorm(4), torch.randn(1, 3, 4)
    with torch.no_grad():
        remembered = norm(hidden)
        norm.forward = lambda hidden: remembered
        with put_on(norm, active([2.0, None], ["text", "video"], {"text": 1})):
            assert torch.equal(norm(hidden), norm(hidden))


def operations(transformer: Any, arguments: dict[str, Any]) -> Counter[str]:
    with torch.no_grad(), CountedOperations() as operations:
        transformer(**arguments)
    return operations.counts


@pytest.fixture
def wan() -> tuple[Any, dict[str, Any]]:
    arguments = {
        "hidden_states": torch.randn(1, 36, 3, 2, 4),
        "timestep": torch.tensor([950.0]),
        "encoder_hidden_states": torch.randn(1, 512, 32),
        "encoder_hidden_states_image": torch.randn(1, 17, 4),
    }
    return wan_i2v()[0].transformer, arguments


def test_an_inactive_step_adds_no_operation_but_reading_the_timestep(wan):
    transformer, arguments = wan
    plain = operations(transformer, arguments)
    with alignvid.attach(transformer, "generic", steps=StepWindow.noise(0.1, 0.2)):
        added = operations(transformer, arguments) - plain
    assert set(added) <= {"max", "_local_scalar_dense"}


def test_an_active_step_adds_one_multiplication_per_scaled_stream_and_site(wan):
    transformer, arguments = wan
    plain = operations(transformer, arguments)
    recipe = Recipe(Scalar(1.35, {"cross.text": 2.0, "cross.image": 1.0}), BlockSet.of([0, 2]), StepWindow.all())
    with alignvid.attach(transformer, recipe):
        added = operations(transformer, arguments) - plain
    assert added["mul_"] == 2 * 2  # blocks, streams
    assert set(added) <= {"mul_", "max", "_local_scalar_dense"}


def test_the_video_tokens_of_a_norm_over_all_tokens_are_not_copied():
    pipe, call = framepack_v1()
    plain, scaled = CountedOperations(), CountedOperations()
    with plain:
        generate(pipe, call)
    recipe = Recipe(Scalar(1.35, {"single.text": 2.0, "single.image": 1.0}), BlockSet.of("all"), StepWindow.all())
    with alignvid.attach(pipe, recipe), scaled:
        generate(pipe, call)
    added = scaled.counts - plain.counts
    assert added["mul_"] == 2 * 3 * 3  # streams, blocks, steps
    assert "cat" not in added


def test_a_norm_whose_streams_all_get_the_same_gain_is_not_split():
    pipe, call = framepack_v1()
    plain, uniform = CountedOperations(), CountedOperations()
    with plain:
        generate(pipe, call)
    with alignvid.attach(pipe, Recipe(Scalar(1.35, {"single.*": 1.0}), BlockSet.of("all"), StepWindow.all())), uniform:
        generate(pipe, call)
    added = uniform.counts - plain.counts
    assert added["mul_"] == 3 * 3  # blocks, steps
    assert not added.keys() & {"split", "split_with_sizes", "cat"}
