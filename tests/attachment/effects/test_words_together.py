"""Words with what users combine: compiled transformers, caches, offloading; as the same words without any of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from PIL import Image

import alignvid
from alignvid import BlockSet, Emphasis, LogBias, Recipe, StepWindow
from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH
from compiling import CountedGraphs, compile_in_place, compile_repeated_blocks
from offloading import as_a_whole, in_groups_of_blocks, in_groups_of_leaves, sequentially

PROMPT = "add a green circle at the top left"
ALL, WINDOW = StepWindow.all(), StepWindow.fraction(0.5, 1.0)  # both steps, and the second of two
KINDS = {
    "gain": Emphasis({"green circle": 2.0}),
    "odds": Emphasis({"green circle": 4.0}, by="odds"),
    "all words": LogBias(4.0, {"cross.words": 1.0}),
}
TOLERANCE = 1  # of 255 colour levels; the same kernels, but for masks in another layout


@pytest.fixture
def pipe():
    return load_pipeline()


def run(pipe) -> np.ndarray:
    """A clip in two steps, in colour levels."""
    size = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES}
    picture, noise = Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 190)), torch.Generator().manual_seed(0)
    steps = {"num_inference_steps": 2, "guidance_scale": 1.0, "generator": noise, "output_type": "np"}
    return pipe(image=picture, prompt=PROMPT, **size, **steps).frames[0] * 255


def clip(pipe, kind: str | None, window: StepWindow = WINDOW) -> np.ndarray:
    """With the words attached, or without."""
    if kind is None:
        return run(pipe)
    with alignvid.attach(pipe, Recipe(KINDS[kind], BlockSet.of("all"), window)):
        return run(pipe)


def is_same(made: np.ndarray, expected: np.ndarray, plain: np.ndarray) -> bool:
    """Equal but for rounding, and not because nothing acted."""
    return bool(abs(made - expected).max() <= TOLERANCE < abs(expected - plain).max())


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.parametrize(
    ("compile_it", "kind"),
    [*((compile_repeated_blocks, kind) for kind in KINDS), (compile_in_place, "gain"), (compile_in_place, "odds")],
)
def test_words_in_a_compiled_transformer_cost_no_graph_and_an_edge_of_their_window_one(pipe, compile_it, kind):
    plain, graphs = clip(pipe, None), CountedGraphs()
    expected = {window: clip(pipe, kind, window) for window in (ALL, WINDOW)}
    compile_it(pipe, backend=graphs)
    for window, most in ((ALL, 1), (WINDOW, 2)):
        torch._dynamo.reset()
        graphs.count = 0
        assert is_same(clip(pipe, kind, window), expected[window], plain)
        assert graphs.count == most
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("kind", ["gain", pytest.param("odds", marks=pytest.mark.slow)])
def test_words_begin_and_end_with_their_window_though_a_cache_would_reuse_every_block(pipe, kind):
    plain, expected, computed = clip(pipe, None), clip(pipe, kind), []
    for block in pipe.transformer.blocks[1:]:
        block.attn2.to_k.register_forward_hook(lambda *_: computed.append(1))
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    assert not is_same(clip(pipe, None), expected, plain) and len(computed) == 5  # the second step is reused
    computed.clear()
    assert is_same(clip(pipe, kind), expected, plain) and len(computed) == 10


@pytest.mark.slow
@pytest.mark.parametrize("window", [WINDOW, StepWindow.fraction(0.0, 0.5)], ids=["begin", "end"])
@pytest.mark.parametrize("kind", KINDS)
def test_words_begin_and_end_with_their_window_though_cache_dit_would_reuse_every_block(pipe, kind, window):
    import cache_dit  # a heavy import, for this test alone

    plain, expected, computed = clip(pipe, None), clip(pipe, kind, window), []
    for block in pipe.transformer.blocks[1:]:
        block.attn2.to_k.register_forward_hook(lambda *_: computed.append(1))
    reuses_all = {"Fn_compute_blocks": 1, "Bn_compute_blocks": 0, "residual_diff_threshold": 1e9}
    one_pass = {"max_warmup_steps": 1, "enable_separate_cfg": False}
    cache_dit.enable_cache(pipe, cache_config=cache_dit.DBCacheConfig(**reuses_all | one_pass))
    try:
        assert not is_same(clip(pipe, None), expected, plain) and len(computed) == 5  # the second step is reused
        computed.clear()
        assert is_same(clip(pipe, kind, window), expected, plain) and len(computed) == 10
    finally:
        cache_dit.disable_cache(pipe)


@pytest.mark.parametrize(
    "offload",
    [
        in_groups_of_leaves,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (in_groups_of_blocks, sequentially, as_a_whole)),
    ],
)
def test_words_in_an_offloaded_pipeline_are_as_in_one_that_is_not(pipe, offload):
    plain, expected = clip(pipe, None), {kind: clip(pipe, kind) for kind in ("gain", "odds")}
    offload(pipe)
    assert all(is_same(clip(pipe, kind), found, plain) for kind, found in expected.items())
