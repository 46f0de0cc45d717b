"""The rule judge against rendered clips whose verdict is known. All 2,000: pytest --run-slow -k thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import Video, centre, render
from alignvid.miniature.judge import judge
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT, sample_scene
from alignvid.miniature.training.train_vae import latents_of, to_tensor
from clips import KnownClip, known_clip, through_h264

QUICK, FULL, RECONSTRUCTED = 120, 2000, 300
REQUIRED = 0.995


def unchanged(video: Video) -> Video:
    return video


def is_right(known: KnownClip, video: Video) -> bool:
    judgement = judge(video, known.scene)
    return (judgement.edit_shown, judgement.rest_untouched) == (known.edit_shown, known.rest_untouched)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [unchanged, pytest.param(through_h264, marks=pytest.mark.slow)])
def test_verdict_on_rendered_clips_is_right(codec: Callable[[Video], Video]) -> None:
    clips = [known_clip(seed) for seed in DEVELOPMENT[:QUICK]]
    wrong = [known for known in clips if not is_right(known, codec(known.video))]
    assert len(wrong) <= (1 - REQUIRED) * QUICK
    assert len({known.case for known in clips}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("codec", [unchanged, through_h264])
def test_verdict_on_two_thousand_held_out_clips_is_right(codec: Callable[[Video], Video]) -> None:
    cases, wrong = Counter(), Counter()
    for known in map(known_clip, HELD_OUT[:FULL]):
        cases[known.case] += 1
        wrong[known.case] += not is_right(known, codec(known.video))
    print({case: f"{cases[case] - wrong[case]} of {cases[case]}" for case in cases})
    assert wrong.total() <= (1 - REQUIRED) * FULL


@pytest.mark.slow
def test_verdict_after_the_autoencoder_is_right_except_for_kinds_of_shape() -> None:
    """Generated clips come from its decoder, which rounds the corners of small shapes."""
    vae, wrong = load_pipeline().vae, []
    for known in map(known_clip, DEVELOPMENT[:RECONSTRUCTED]):
        with torch.no_grad():
            clip = vae.decode(latents_of(vae, to_tensor(known.video)[None]), return_dict=False)[0][0]
        video = ((clip.permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
        if not is_right(known, video):
            wrong.append(known.case)
    print(f"wrong: {wrong}")
    assert len([case for case in wrong if case != "wrong kind"]) <= 0.01 * RECONSTRUCTED
    assert len(wrong) <= 0.05 * RECONSTRUCTED


def test_a_ghost_of_a_deleted_shape_is_not_a_deletion() -> None:
    scene = sample_scene(DEVELOPMENT[0], edit_kind="delete")
    halfway = (render(scene).astype(float) + render(scene, shown=False)) / 2
    assert not judge(halfway.astype(np.uint8), scene).edit_shown


def test_a_flash_off_the_path_is_a_touch() -> None:
    scene = sample_scene(DEVELOPMENT[0], edit_kind="delete")
    video = render(scene)
    free = next(cell for cell in range(9) if cell not in {shape.cell for shape in scene.shapes})
    x, y = (round(side) for side in centre(free))
    video[3, y - 4 : y + 5, x - 4 : x + 5] = (255, 0, 0)
    assert not judge(video, scene).rest_untouched


def test_the_reason_names_place_and_shapes() -> None:
    scene = sample_scene(DEVELOPMENT[1], edit_kind="add")
    (reason,) = judge(render(scene, shown=False), scene).reasons
    assert "nothing instead of a large" in reason
