import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignvid.analysis import tiles
from alignvid.analysis.maps import as_frames, attention_to_keys, frame_grid, region_positions, word_positions
from alignvid.analysis.observe import observe
from alignvid.analysis.trace import Trace
from alignvid.errors import ObservationError
from alignvid.host import hosts
from pipelines import generate

TOLERANCE = 1e-6  # of float32 weights that add up to 1


@pytest.mark.parametrize("limit", [40, 1 << 19])
@pytest.mark.parametrize("mask", [None, torch.arange(9) < 7, torch.randn(6, 9)], ids=["none", "keys", "bias"])
def test_attention_to_keys_equals_the_dense_computation(monkeypatch, limit, mask):
    monkeypatch.setitem(tiles._LOGITS_PER_TILE, "cpu", limit)
    query, key = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 9, 8)
    logits = query @ key.transpose(-1, -2) / math.sqrt(8)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    expected = logits.softmax(-1)[..., [1, 4, 8]].sum(-1).mean(1)
    measured = attention_to_keys(query, key, chosen=[1, 4, 8], mask=mask)
    torch.testing.assert_close(measured, expected, atol=TOLERANCE, rtol=0)


def test_tokens_become_frames_row_by_row():
    frames = as_frames(torch.arange(24.0), (3, 4))
    assert frames.shape == (2, 3, 4) and frames[1, 2, 3] == 23 and frames[0, 1, 0] == 4


def test_tokens_that_fill_no_whole_frame_are_refused():
    with pytest.raises(ObservationError, match="25 video tokens do not fill frames of 3 x 4"):
        as_frames(torch.arange(25.0), (3, 4))


@pytest.mark.parametrize(("name", "grid"), [("wan_t2v", (1, 2)), ("hunyuan_t2v", (2, 4)), ("framepack_v1", (2, 3))])
def test_the_grid_of_a_frame(built, name, grid):
    pipe, call = built(name)
    factor = 8
    latents = torch.zeros(1, 16, 3, call["height"] // factor, call["width"] // factor)
    assert frame_grid(hosts(pipe)[0], {"hidden_states": latents}) == grid


@pytest.mark.parametrize(
    ("name", "stack", "stream", "keys", "shape"),
    [
        ("wan_t2v", "blocks", "text", 24, (3, 1, 2)),
        ("wan_i2v", "blocks", "image", 17, (3, 1, 2)),
        ("wan22_ti2v_5b", "blocks", "image", 2, (2, 1, 2)),
        ("hunyuan_t2v", "single_transformer_blocks", "text", 24, (3, 2, 4)),
        ("framepack_v1", "transformer_blocks", "image", 16, (4, 2, 3)),
    ],
)
def test_a_map_of_a_whole_stream_has_the_mass_that_the_facts_tell(built, name, stack, stream, keys, shape):
    pipe, call = built(name)
    with observe(pipe, blocks={stack: [0]}, steps=(0.0, 0.3), maps={"all": (stream, range(keys))}) as trace:
        generate(pipe, call)
    (drawn,) = (item for item in trace.maps if item.branch == "cond")
    facts = trace.where(site=drawn.site, query="video", keys=stream, branch="cond").facts
    assert drawn.weights.shape == shape
    assert drawn.weights.mean() == pytest.approx(next(f.values[0] for f in facts if f.measure == "mass"), abs=1e-5)


def test_maps_are_saved_with_the_trace(built, trace_path):
    pipe, call = built("wan_i2v")
    with observe(pipe, blocks=[1], maps={"cat": ("text", [3, 4]), "corner": ("image", [1])}) as trace:
        generate(pipe, call)
    assert {(item.name, item.site, item.step, item.branch) for item in trace.maps} == {
        (name, "cross", step, branch)
        for name in ("cat", "corner")
        for step in range(3)
        for branch in ("cond", "uncond")
    }
    trace.save(trace_path)
    read = Trace.load(trace_path).where(step=1, branch="cond")
    assert [item.name for item in read.maps] == ["corner", "cat"]  # image attention comes first
    assert all(np.isfinite(item.weights).all() and item.weights.max() <= 1 for item in read.maps)


def test_a_key_that_does_not_exist_is_refused(built):
    pipe, call = built("wan_t2v")
    with pytest.raises(ObservationError, match="Key 24 of 'cat' does not exist: the stream text has keys 0 to 23"):
        with observe(pipe, maps={"cat": ("text", [24])}):
            generate(pipe, call)


def tokenizer():
    words = ["<unk>", "the", "cat", "puts", "on", "sun", "glasses"]
    model = Tokenizer(models.WordPiece({**{w: i for i, w in enumerate(words)}, "##glasses": 7}, unk_token="<unk>"))
    model.pre_tokenizer, model.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>")


@pytest.mark.parametrize(("word", "positions"), [("cat", [1]), ("sunglasses", [4, 5]), ("the cat", [0, 1])])
def test_positions_of_a_word(word, positions):
    assert word_positions(tokenizer(), "the cat puts on sunglasses", word) == positions


def test_a_word_that_is_not_in_the_prompt_is_refused():
    with pytest.raises(ObservationError, match="The word 'sun' is not in the prompt 'the cat'"):
        word_positions(tokenizer(), "the cat", "sun")


def test_positions_of_a_region():
    region = np.zeros((2, 3), bool)
    region[1, :2] = True
    assert region_positions(region, first=1) == [4, 5]
    with pytest.raises(ObservationError, match="region of the reference image is empty"):
        region_positions(np.zeros((2, 3), bool), first=1)
