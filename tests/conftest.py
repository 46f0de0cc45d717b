import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub: no test may need a download

import jaxtyping
import pytest
import torch

import older_diffusers  # before a test imports what it lacks
import torchvision_beside_cpu_torch  # noqa: F401 # before anything imports torchvision
from recording import OPTION, pytest_runtest_makereport, pytest_sessionfinish  # noqa: F401  # hooks

jaxtyping.install_import_hook("alignvid", "typechecking.check")  # every signature, shapes too, for the whole session
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(OPTION, action="store_true", help="write what tests on pipelines found, for the tables in docs")


def pytest_collection_modifyitems(config, items):
    older_diffusers.leave_out(config, items)
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; add --run-slow"))


@pytest.fixture
def unchecked_types():
    """For torch.compile, which cannot trace the checker, and for what alignvid itself says to a user's wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def fresh_dynamo():
    """What one test compiled must not count, or be reused, in another."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
