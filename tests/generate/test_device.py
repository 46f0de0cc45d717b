import pytest
import torch

from alignvid.errors import InputError
from alignvid.generate.device import Device, choose_device, device_names, offload_that_fits

GIGABYTE = 10**9


def test_the_cpu_is_always_there():
    assert device_names()[-1] == "cpu"


def test_a_cpu_gets_float32_unless_asked_otherwise():
    assert choose_device("cpu", None, None) == Device("cpu", "float32", None)
    assert choose_device("cpu", "bfloat16", None).dtype == "bfloat16"


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"Device 'cuda:99' does not exist here; choose one of .*cpu"):
        choose_device("cuda:99", None, None)


def test_offload_without_a_gpu_is_refused():
    with pytest.raises(InputError, match="needs a CUDA device"):
        choose_device("cpu", None, "model")


@pytest.mark.parametrize(
    ("model_gigabytes", "free_gigabytes", "offload"),
    [
        ([28, 11, 1], 80, "none"),
        ([28, 11, 1], 48, "model"),
        ([28, 11, 1], 24, "sequential"),
    ],
)
def test_offload_is_the_least_that_fits(model_gigabytes, free_gigabytes, offload):
    sizes = [size * GIGABYTE for size in model_gigabytes]
    assert offload_that_fits(sizes, free_gigabytes * GIGABYTE) == offload


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_a_gpu_makes_a_video_with_every_offload(i2v_spec, tmp_path, offload):
    from dataclasses import replace

    from alignvid.generate import generate

    made = generate(replace(i2v_spec, device="cuda", offload=offload), tmp_path)
    assert made.record.machine["offload"] == offload
    assert made.record.attachment["acted"] > 0
