from pathlib import Path

import pytest

from pipelines import BUILDERS


@pytest.fixture(scope="session")
def built():
    """Pipelines by name, each built once: they are deterministic, and observing leaves nothing behind."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = BUILDERS[name]()
        return made[name]

    return get


@pytest.fixture
def trace_path(tmp_path) -> Path:
    return tmp_path / "run.trace"
