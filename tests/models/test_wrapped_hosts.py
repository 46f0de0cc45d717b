"""Models that another tool has wrapped, or put a class or hooks of its own on: seen through, or refused with a place.

torch.compile's wrapper has its own tests (test_compile.py), diffusers' offloading too (test_offload.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator, disk_offload, dispatch_model
from peft import LoraConfig, get_peft_model
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

import alignvid
from alignvid.errors import AttachmentError
from five import RECIPE
from pipelines import generate, wan_i2v, wan_t2v


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    """One process that believes to be alone in a group."""
    distributed.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    yield
    distributed.destroy_process_group()


def peft_model(transformer: nn.Module) -> nn.Module:
    return get_peft_model(transformer, LoraConfig(target_modules=["to_v"], r=2, init_lora_weights=True))


WRAPPERS: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    # wrapper: how it is made, and where the transformer lies in it
    "DataParallel": (nn.DataParallel, "module"),
    "DistributedDataParallel": (DistributedDataParallel, "module"),
    "FullyShardedDataParallel": (lambda m: FullyShardedDataParallel(m, device_id=torch.device("cpu")), "_fsdp_wrapped"),
    "PeftModel": (peft_model, "base_model.model"),
}


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore:.*FSDP.*", "ignore:.*NO_SHARD.*", "ignore:.*sharding.*")
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_is_refused_with_the_place_where_the_transformer_lies(wrapper):
    wrap, place = WRAPPERS[wrapper]
    pipe, _ = wan_i2v()
    pipe.transformer = wrap(pipe.transformer)
    message = rf"wrapped in {wrapper}, which alignvid does not see through; attach before wrapping it, .* at `{place}"
    with pytest.raises(AttachmentError, match=message):
        alignvid.attach(pipe)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("wrapper", ["DataParallel", "DistributedDataParallel", "PeftModel"])
def test_what_was_attached_before_wrapping_acts_through_the_wrapper(wrapper):
    pipe, _ = wan_t2v()
    torch.manual_seed(0)
    arguments = {
        "hidden_states": torch.randn(1, 16, 3, 2, 4),
        "timestep": torch.tensor([950.0]),
        "encoder_hidden_states": torch.randn(1, 24, 32),
        "return_dict": False,
    }

    def run(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model(**arguments)[0]

    plain = run(pipe.transformer)
    attachment = alignvid.attach(pipe.transformer, RECIPE, schedule=[950.0])
    expected = run(pipe.transformer)
    wrapped = WRAPPERS[wrapper][0](pipe.transformer)
    assert torch.equal(run(wrapped), expected) and not torch.equal(expected, plain)
    attachment.detach()
    assert torch.equal(run(wrapped), plain)


SEEN_THROUGH: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "accelerate's dispatch": lambda m, _: dispatch_model(m, {"": "cpu"}, main_device="cpu", force_hooks=True),
    "weights on the disk": lambda m, folder: disk_offload(m, folder, execution_device=torch.device("cpu")) or m,
    "Accelerator.prepare": lambda m, _: Accelerator(cpu=True).prepare(m),
}


@pytest.mark.parametrize("tool", SEEN_THROUGH)
def test_what_is_seen_through_gives_what_the_bare_model_gives(tool, tmp_path):
    pipe, call = wan_i2v()
    call = call | {"num_inference_steps": 2}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        expected = generate(pipe, call)
    pipe.transformer = SEEN_THROUGH[tool](pipe.transformer, tmp_path)
    with alignvid.attach(pipe, RECIPE):
        assert torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), plain)
    assert not torch.equal(expected, plain)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("is_attached_first", [True, False])
def test_fsdp2_keeps_its_class_whether_attached_before_or_after(is_attached_first):
    """`fully_shard` makes a class of its own over the one that it finds."""
    pipe, call = wan_i2v()
    call = call | {"num_inference_steps": 2}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        expected = generate(pipe, call)
    steps = [lambda: alignvid.attach(pipe, RECIPE), lambda: shard(pipe.transformer)]
    for step in steps if is_attached_first else reversed(steps):
        step()
    for _ in range(2):
        assert torch.equal(generate(pipe, call), expected)
        alignvid.detach(pipe)
        assert isinstance(pipe.transformer, FSDPModule)
        assert isinstance(pipe.transformer.blocks[0].attn2.norm_k, FSDPModule)
        assert torch.equal(generate(pipe, call), plain)
        attachment = alignvid.attach(pipe, RECIPE)
    assert attachment.forward_count == 0
    generate(pipe, call)
    assert attachment.forward_count == 2 * call["num_inference_steps"]


def shard(transformer: nn.Module) -> None:
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(transformer.blocks[0].attn2.norm_k, mesh=mesh)
    fully_shard(transformer, mesh=mesh)
