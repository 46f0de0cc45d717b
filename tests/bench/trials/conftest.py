import pytest

import trial_stub
from bench_stub import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes") / "set", 14)


@pytest.fixture(scope="session")
def trial(data, tmp_path_factory):
    return trial_stub.planned(data, tmp_path_factory.mktemp("log") / "log")


@pytest.fixture(scope="session")
def finished(trial, tmp_path_factory):
    """A trial whose clips are all there."""
    return trial_stub.run(trial, tmp_path_factory.mktemp("trial") / "out")
