"""What goes wrong while observing: nothing is lost, nothing stays behind, and one sentence says what to do."""

import math
import threading

import pytest
import torch
import torch.nn.functional as F

from alignvid.analysis import sites
from alignvid.analysis.observe import observe
from alignvid.errors import ObservationError, ScheduleError, UnknownTarget
from alignvid.schedule import StepWindow
from observed import hooks_on, seen
from pipelines import BUILDERS, generate
from video_pipelines.cosmos3 import cosmos3_i2v
from video_pipelines.sana_wm import sana_wm


def test_an_error_inside_the_block_keeps_the_trace_and_removes_the_hooks(built):
    pipe, call = built("wan_t2v")

    def stop(pipe, step, timestep, kept):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observe(pipe) as trace:
        generate(pipe, call, callback_on_step_end=stop)
    assert {fact.step for fact in trace.facts} == {0}
    assert hooks_on(pipe.transformer) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_inside_an_attention_stops_the_listening(built, monkeypatch, error):
    pipe, call = built("wan_t2v")
    attention = pipe.transformer.blocks[1].attn2

    def fail(output):
        raise error

    handle = attention.to_out[0].register_forward_hook(lambda *_: fail(_))
    with pytest.raises(error), observe(pipe) as trace:
        generate(pipe, call)
    handle.remove()
    assert torch._C._len_torch_function_stack() == 0
    assert trace.facts and generate(pipe, call) is not None


def test_another_thread_is_not_overheard(built):
    pipe, call = built("wan_t2v")
    other = threading.Thread(target=lambda: F.scaled_dot_product_attention(*[torch.randn(1, 1, 4, 4)] * 3))
    pipe.transformer.blocks[0].attn1.to_out[0].register_forward_hook(lambda *_: (other.start(), other.join()) and None)
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as trace:
        generate(pipe, call, num_inference_steps=1, guidance_scale=1.0)
    assert seen(trace) == {("blocks", "self", "video", "video"), ("blocks", "cross", "video", "text")}
    pipe.transformer.blocks[0].attn1.to_out[0]._forward_hooks.clear()


def test_nan_is_named_warned_of_once_and_left_out(built):
    pipe, call = BUILDERS["wan_t2v"]()
    with torch.no_grad():
        pipe.transformer.blocks[1].attn2.norm_k.weight.fill_(math.nan)
    with pytest.warns(UserWarning, match=r"NaN or infinity in attention cross of block 1 of `blocks`.*at step 0"):
        with observe(pipe) as trace:
            assert generate(pipe, call).shape == generate(*built("wan_t2v")).shape
    assert {(fact.block, fact.site) for fact in trace.facts if fact.step == 0} == {
        (0, "self"),
        (0, "cross"),
        (1, "self"),
    }
    assert len(trace.problems) > 1 and "problems, first: NaN" in str(trace)


def test_nothing_observed_is_an_error(built):
    pipe, _ = built("wan_t2v")
    with pytest.raises(ObservationError, match="Nothing was observed: transformer ran no forward in 0% to 100%"):
        with observe(pipe):
            pass


def test_no_step_on_purpose_is_refused(built):
    with pytest.raises(ObservationError, match="nothing to observe: 6 attentions at no step"):
        observe(built("wan_t2v")[0], steps=StepWindow.none())


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"blocks": [3]}, UnknownTarget, "Block 3 of `blocks` does not exist: it has blocks 0 to 2"),
        ({"blocks": {"layers": [0]}}, UnknownTarget, "`layers` is not a stack of WanTransformer3DModel; choose from"),
        ({"steps": (0.5, 0.2)}, ScheduleError, "contains no step"),
        ({"maps": {"cat": ("words", [0])}}, ObservationError, "'cat' is of keys .0. of 'words'; give .* text, video"),
        ({"maps": {"cat": ("text", [])}}, ObservationError, "give at least one position"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(built, choice, error, message):
    with pytest.raises(error, match=message):
        observe(built("wan_t2v")[0], **choice)


def test_a_compiled_model_is_refused():
    pipe, _ = BUILDERS["wan_t2v"]()
    pipe.transformer.blocks[0].compile(backend="eager")
    with pytest.raises(ObservationError, match="The transformer is compiled, so its attention cannot be overheard"):
        observe(pipe)
    pipe, _ = BUILDERS["wan_t2v"]()
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    with pytest.raises(ObservationError, match="is compiled"):
        observe(pipe)


class WithoutSoftmax:
    """An attention processor that mixes nothing."""

    _attention_backend = "flex"

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        attn.norm_k(attn.to_k(hidden_states if encoder_hidden_states is None else encoder_hidden_states))
        return hidden_states


def test_a_site_without_softmax_is_named_with_the_remedy():
    pipe, call = BUILDERS["wan_t2v"]()
    pipe.transformer.blocks[1].attn2.set_processor(WithoutSoftmax())
    with pytest.raises(ObservationError, match=r"cross of block 1 of `blocks` asked no softmax.*backend: flex.*native"):
        with observe(pipe):
            generate(pipe, call)
    assert torch._C._len_torch_function_stack() == 0


class Causal:
    """An attention processor that looks back only."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        keys = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(keys, keys, keys, is_causal=True).transpose(1, 2).flatten(2)


def test_causal_attention_is_refused():
    pipe, call = BUILDERS["wan_t2v"]()
    pipe.transformer.blocks[1].attn1.set_processor(Causal())
    with pytest.raises(ObservationError, match="self of block 1 of `blocks` is causal, which is not measured"):
        with observe(pipe):
            generate(pipe, call)


class TextOnly:
    """Wan's cross-attention without its image part: one of two key norms does not run."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(encoder_hidden_states))
        query, key = (item.unflatten(2, (attn.heads, -1)).transpose(1, 2) for item in (query, key))
        return F.scaled_dot_product_attention(query, key, key).transpose(1, 2).flatten(2)


def test_a_key_norm_that_does_not_run_is_passed_over():
    pipe, call = BUILDERS["wan_i2v"]()
    pipe.transformer.blocks[1].attn2.set_processor(TextOnly())
    with observe(pipe, blocks=[1]) as trace:
        generate(pipe, call)
    assert ("blocks", "cross", "video", "text") in seen(trace) and not trace.problems


class Widened:
    """An attention over keys that did not pass the key norm."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        keys = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        more = torch.cat([keys, keys], 2)
        return F.scaled_dot_product_attention(keys, more, more).transpose(1, 2).flatten(2)


def test_keys_from_elsewhere_are_refused():
    pipe, call = BUILDERS["wan_t2v"]()
    pipe.transformer.blocks[1].attn1.set_processor(Widened())
    with pytest.raises(
        ObservationError,
        match=r"softmax over 12 keys, where its key norms gave other ones \(.*\): it leaves out padding",
    ):
        with observe(pipe):
            generate(pipe, call)


def test_streams_that_do_not_add_up_are_refused():
    with pytest.raises(ObservationError, match="10 tokens cannot be split into image, video with the counts"):
        sites.split_streams(("image", "video"), 10, {"image": 12})
    assert sites.split_streams(("image", "video"), 10, {"image": 4}) == (("image", 4), ("video", 6))
    assert sites.split_streams(("image", "video"), 10, {"image": 0}) == (("video", 10),)


def test_two_attentions_in_one_module_are_refused_with_the_blocks_to_leave_out():
    pipe, call = sana_wm()
    expected = r"self and camera of block 1 of `blocks` run in one module, .* choose other blocks than 1, 3\."
    with pytest.raises(ObservationError, match=expected):
        observe(pipe)
    with observe(pipe, blocks=[0, 2]) as trace:
        generate(pipe, call)
    assert seen(trace) == {("blocks", "cross", query, "text") for query in ("image", "video")}


def test_maps_of_a_model_that_does_not_tell_its_frames_are_refused():
    pipe, call = cosmos3_i2v()
    with pytest.raises(ObservationError, match=r"Cosmos3OmniTransformer does not say how its tokens lie in frames"):
        with observe(pipe, maps={"cat": ("text", [3])}):
            generate(pipe, call)
    assert hooks_on(pipe.transformer) == []
