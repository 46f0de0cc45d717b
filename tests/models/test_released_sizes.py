"""benchmarks/sizes.py: what the gain touches in the released models, on tensors that have a shape and nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from hosts import HOSTS
from sizes import size_rows


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_the_generic_preset_touches_no_tensor_as_long_as_the_video(name):
    (row,) = size_rows([name])
    tokens = int(row.tokens.partition(" ")[0].replace(",", ""))
    assert max(int(side) for side in row.largest_tensor.split("x")) < tokens
