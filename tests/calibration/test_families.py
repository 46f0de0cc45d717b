"""Every family: a ratio for each of its blocks, from the real pipeline."""

import numpy as np
import pytest

from alignvid.analysis.token_rows import observe_token_rows
from alignvid.calibration.measure import Block, measurement
from alignvid.schedule import StepWindow
from pipelines import BUILDERS, generate

STACKS = {
    "wan_i2v": {"blocks": 3},
    "wan22_i2v": {"blocks": 3},
    "hunyuan_i2v_latent_concat": {"transformer_blocks": 3, "single_transformer_blocks": 3},
    "framepack_f1": {"transformer_blocks": 3, "single_transformer_blocks": 3},
}


@pytest.mark.parametrize("name", STACKS)
def test_every_block_has_a_ratio_and_a_view(name):
    pipe, call = BUILDERS[name]()
    mask = np.zeros((call["height"], call["width"]), bool)
    mask[:, : call["width"] // 2] = True
    with observe_token_rows(pipe, steps=StepWindow.all()) as rows:
        generate(pipe, call)
    measured = measurement(rows, mask)
    assert set(measured.ratios) == {
        Block(stack, block) for stack, count in STACKS[name].items() for block in range(count)
    }
    assert all(0 <= ratio <= 1 for ratio in measured.ratios.values())
    assert {view.rgb.shape for view in measured.views.values()} == {(*rows.grid, 3)}
    assert measured.chance == pytest.approx(0.5, abs=0.26)  # half of the picture; a grid of 2 columns or more
