import math

import pytest
import torch
import torch.nn.functional as F

import alignvid
import video_pipelines
from alignvid.analysis import observation
from alignvid.analysis.observe import observe
from observed import hooks_on, seen
from pipelines import BUILDERS, generate
from video_pipelines.cosmos3 import cosmos3_i2v

TOLERANCE = 1e-5  # of float32 sums over a few hundred keys


def one(trace, measure, **where):
    """The single value that fits."""
    facts = [fact for fact in trace.where(**where).facts if fact.measure == measure]
    assert len(facts) == 1, facts
    return facts[0].values


class DenseCalls:
    """Every attention of a run, as the textbook writes it, seen by wrapping torch's function in the test."""

    def __init__(self, monkeypatch):
        self.calls, self._attend = [], F.scaled_dot_product_attention
        monkeypatch.setattr(F, "scaled_dot_product_attention", self._keep)

    def _keep(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        self.calls.append((query.clone(), key.clone(), attn_mask))
        return self._attend(query, key, value, attn_mask=attn_mask, scale=scale)

    def of_keys(self, count):
        """Those of the Wan transformer's attentions that have so many keys."""
        return [call for call in self.calls if call[1].shape[1:] == (2, count, 12)]


def entropy_of(query, key, mask=None):
    logits = query.double() @ key.double().transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = (logits if mask is None else logits.masked_fill(~mask, -math.inf)).softmax(-1)
    return -torch.special.xlogy(weights, weights).sum(-1), weights


class EvenStreams:
    """Wan's cross-attention with as many text keys as image keys, the image first."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        image, text = encoder_hidden_states[:, :17], encoder_hidden_states[:, 17:34]
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(text))
        key_image = attn.norm_added_k(attn.add_k_proj(image))
        query, key, key_image = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (query, key, key_image))
        mixed = [F.scaled_dot_product_attention(query, keys, keys) for keys in (key_image, key)]
        return sum(mixed).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("name", BUILDERS)
def test_observing_leaves_the_output_bit_equal_and_the_model_as_it_was(built, name):
    pipe, call = built(name)
    hooks, expected = hooks_on(pipe.transformer), generate(pipe, call)
    with observe(pipe, per_head=True) as trace:
        assert torch.equal(generate(pipe, call), expected)
    assert trace.facts and not trace.problems
    assert hooks_on(pipe.transformer) == hooks and "cache_context" not in vars(pipe.transformer)
    assert torch.equal(generate(pipe, call), expected)


FACTS = {
    "wan_t2v": {("blocks", "self", "video", "video"), ("blocks", "cross", "video", "text")},
    "wan_i2v": {
        ("blocks", "self", "video", "video"),
        ("blocks", "cross", "video", "text"),
        ("blocks", "cross", "video", "image"),
    },
    "wan22_ti2v_5b": {
        ("blocks", "self", "video", "image+video"),
        ("blocks", "self", "image", "image+video"),
        ("blocks", "cross", "video", "text"),
        ("blocks", "cross", "image", "text"),
    },
    "hunyuan_t2v": {
        (stack, site, query, "video+text")
        for stack, site in (("transformer_blocks", "double"), ("single_transformer_blocks", "single"))
        for query in ("video", "text")
    },
    "framepack_v1": {
        (stack, site, query, "history+video+image+text")
        for stack, site in (("transformer_blocks", "double"), ("single_transformer_blocks", "single"))
        for query in ("history", "video", "image", "text")
    },
}


@pytest.mark.parametrize("name", FACTS)
def test_every_site_and_query_stream_is_recorded(built, name):
    pipe, call = built(name)
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as trace:
        generate(pipe, call)
    assert seen(trace) == FACTS[name]


def test_masses_of_a_softmax_add_up_to_one(built):
    pipe, call = built("framepack_v1")
    with observe(pipe, blocks=[1]) as trace:
        generate(pipe, call)
    masses = trace.where(query="video", stack="transformer_blocks").mean("mass", by=("step", "keys"))
    assert masses.labels == ((0, 1, 2), ("history", "image", "text", "video"))
    assert masses.values.sum(-1) == pytest.approx([1.0] * 3, abs=TOLERANCE)


def test_wan_facts_equal_the_dense_computation(built, monkeypatch):
    pipe, call = built("wan_i2v")
    with observe(pipe, blocks=[1], steps=(0.0, 0.3), per_head=True) as trace:
        dense = DenseCalls(monkeypatch)
        generate(pipe, call, num_inference_steps=1)
    image, text = (dense.of_keys(count)[1] for count in (17, 512))  # the second block of the first pass
    text_entropy, _ = entropy_of(*text)
    entropy = one(trace, "entropy", site="cross", keys="text", branch="cond")
    assert entropy == pytest.approx(text_entropy.mean((0, 2)).tolist(), abs=TOLERANCE)
    _, weights = entropy_of(text[0], torch.cat([image[1], text[1]], 2))
    pooled = one(trace, "pooled_mass", site="cross", keys="text", branch="cond")
    assert pooled == pytest.approx(weights[..., 17:].sum(-1).mean((0, 2)).tolist(), abs=TOLERANCE)


def test_as_many_image_keys_as_text_keys_are_told_apart(built, monkeypatch):
    pipe, call = BUILDERS["wan_i2v"]()
    attention = pipe.transformer.blocks[0].attn2
    attention.set_processor(EvenStreams())
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as trace:
        dense = DenseCalls(monkeypatch)
        generate(pipe, call, num_inference_steps=1, guidance_scale=1.0)
    image, text = dense.of_keys(17)[:2]  # the other blocks come after
    for name, (query, key, _) in (("image", image), ("text", text)):
        expected = entropy_of(query, key)[0].mean().item()
        assert one(trace, "entropy", site="cross", keys=name)[0] == pytest.approx(expected, abs=TOLERANCE)


def test_padding_of_a_joint_attention_counts_neither_as_key_nor_as_query(built, monkeypatch):
    pipe, call = built("hunyuan_t2v")
    with observe(pipe, blocks={"single_transformer_blocks": [0]}, steps=(0.0, 0.3)) as trace:
        dense = DenseCalls(monkeypatch)
        generate(pipe, call, num_inference_steps=1)
    query, key, mask = dense.calls[-3]  # the first of three single blocks
    video_tokens, valid = 3 * 2 * 4, 18
    entropy, weights = entropy_of(query, key, mask)
    of_text = slice(video_tokens, video_tokens + valid)
    assert one(trace, "entropy", query="text")[0] == pytest.approx(entropy[:, :, of_text].mean().item(), abs=TOLERANCE)
    assert one(trace, "mass", query="video", keys="text")[0] == pytest.approx(
        weights[:, :, :video_tokens, video_tokens:].sum(-1).mean().item(), abs=TOLERANCE
    )


def test_observing_sees_the_keys_with_the_gain(built):
    pipe, call = built("wan_t2v")
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as before:
        generate(pipe, call)
    with alignvid.attach(pipe, gamma=2.0, streams=["cross.text"], blocks=[0]):
        with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as after:
            generate(pipe, call)
    change = before.compare(after)
    for branch in ("cond", "uncond"):
        (energy,), (doubled,) = (one(trace, "energy", site="cross", branch=branch) for trace in (before, after))
        assert doubled == pytest.approx(2.0 * energy, rel=1e-4)  # float32 means of many values around 0
        assert one(change, "entropy", site="cross", branch=branch)[0] < 0
    assert after.origin["attached"]["transformer"]["recipe"]["modulation"]["gamma"] == 2.0
    assert before.origin["attached"] == {}


def test_attaching_and_detaching_inside_the_block_is_fine(built):
    pipe, call = built("wan_t2v")
    expected = generate(pipe, call)
    with observe(pipe, blocks=[0]) as trace:
        with alignvid.attach(pipe, gamma=2.0):
            changed = generate(pipe, call)
        assert torch.equal(generate(pipe, call), expected)
    assert not torch.equal(changed, expected)
    assert {fact.branch for fact in trace.facts} == {"cond", "uncond"}
    assert "cache_context" not in vars(pipe.transformer)


def test_branches_steps_and_transformers_are_told_apart(built):
    pipe, call = built("wan22_i2v")
    with observe(pipe, blocks=[2]) as trace:
        generate(pipe, call)
    assert {(fact.host, fact.step, fact.branch) for fact in trace.facts} == {
        (host, step, branch)
        for host, step in (("transformer", 0), ("transformer_2", 1), ("transformer_2", 2))
        for branch in ("cond", "uncond")
    }
    assert {fact.block for fact in trace.facts} == {2}


def test_sections_of_a_restarting_schedule_are_told_apart(built):
    pipe, call = built("framepack_v1_three_sections")
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as trace:
        generate(pipe, call)
    assert {(fact.section, fact.step) for fact in trace.facts} == {(0, 0), (1, 0), (2, 0)}


def wan_arguments(batch=1):
    return {
        "hidden_states": torch.randn(batch, 16, 3, 2, 4),
        "timestep": torch.tensor([900.0] * batch),
        "encoder_hidden_states": torch.randn(batch, 24, 32),
    }


def test_a_bare_transformer_is_observed(built):
    transformer = built("wan_t2v")[0].transformer
    with observe(transformer, blocks=[0]) as trace, torch.no_grad():
        transformer(**wan_arguments())
    assert {(fact.step, fact.branch) for fact in trace.facts} == {(-1, "unknown")}
    assert trace.facts[0].noise_level == pytest.approx(0.9)


def test_a_batch_with_both_branches_is_split(built):
    transformer = built("wan_t2v")[0].transformer
    arguments = wan_arguments(batch=2)
    with observe(transformer, blocks=[0]) as trace, torch.no_grad(), transformer.cache_context("cond_uncond"):
        transformer(**arguments)
    with observe(transformer, blocks=[0]) as alone, torch.no_grad(), transformer.cache_context("cond"):
        transformer(**{name: value[1:] for name, value in arguments.items()})
    assert {fact.branch for fact in trace.facts} == {"uncond", "cond"}
    conditional = [fact.values[0] for fact in trace.where(branch="cond").facts]
    assert conditional == pytest.approx([fact.values[0] for fact in alone.facts], abs=1e-5)  # another batch's rounding


def test_heads_are_kept_on_request(built):
    pipe, call = built("wan_t2v")
    with observe(pipe, blocks=[0], steps=(0.0, 0.3), per_head=True) as by_head:
        generate(pipe, call)
    with observe(pipe, blocks=[0], steps=(0.0, 0.3)) as averaged:
        generate(pipe, call)
    for heads, mean in zip(by_head.facts, averaged.facts, strict=True):
        assert len(heads.values) == 2 and sum(heads.values) / 2 == pytest.approx(mean.values[0], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["wan_i2v", "framepack_v1"])
def test_attentions_measured_together_or_alone_give_the_same_facts_in_the_order_of_the_blocks(built, monkeypatch, name):
    pipe, call = built(name)
    with observe(pipe) as together:
        generate(pipe, call)
    monkeypatch.setattr(observation, "_MOST_BYTES_WAITING", 0)
    with observe(pipe) as alone:
        generate(pipe, call)
    assert [fact.place for fact in together.facts] == [fact.place for fact in alone.facts]
    assert [fact.values[0] for fact in together.facts] == pytest.approx(
        [fact.values[0] for fact in alone.facts], abs=TOLERANCE
    )


def test_two_observations_of_one_pipeline_see_the_same(built):
    pipe, call = built("wan_t2v")
    with observe(pipe, blocks=[0]) as outer, observe(pipe, blocks=[0]) as inner:
        generate(pipe, call)
    assert outer.facts == inner.facts
    assert "cache_context" not in vars(pipe.transformer)


def test_text_that_looks_back_on_itself_is_left_out_and_the_rest_is_the_dense_computation(monkeypatch):
    """Cosmos 3: generated tokens look at all, text at text; two heads of queries share one of keys."""
    pipe, call = cosmos3_i2v()
    attend, seen_calls = F.scaled_dot_product_attention, []

    def keep(query, key, value, **options):
        if key.shape[1:3] == (2, 30 + 8 + 16):  # prompt, clean frame, video
            seen_calls.append((query.clone(), key.repeat_interleave(2, 1)))
        return attend(query, key, value, **options)

    with observe(pipe, blocks=[0], steps=(0.0, 0.3), per_head=True) as trace:
        monkeypatch.setattr(F, "scaled_dot_product_attention", keep)
        generate(pipe, call)
    assert seen(trace) == {("layers", "double", query, "text+image+video") for query in ("image", "video")}
    entropy, weights = entropy_of(*seen_calls[0])  # queries: clean frame, video
    where = {"query": "video", "branch": "cond"}
    assert one(trace, "entropy", **where) == pytest.approx(entropy[..., 8:].mean((0, 2)).tolist(), abs=TOLERANCE)
    mass = weights[..., 8:, :30].sum(-1).mean((0, 2)).tolist()
    assert one(trace, "mass", keys="text", **where) == pytest.approx(mass, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("builder", "asking"),
    [
        (
            video_pipelines.BUILDERS["ltx2_i2v"],
            {
                ("self", "image"),
                ("self", "video"),
                ("cross", "image"),
                ("cross", "video"),
                ("audio_self", "audio"),
                ("audio_cross", "audio"),
                ("audio_to_video", "image"),
                ("audio_to_video", "video"),
                ("video_to_audio", "audio"),
            },
        ),
        (video_pipelines.BUILDERS["helios_pyramid"], {("self", "history"), ("self", "video"), ("cross", "video")}),
    ],
    ids=["sound asks for itself", "history does not ask the text"],
)
def test_queries_belong_to_the_streams_that_ask(builder, asking):
    pipe, call = builder()
    with observe(pipe, blocks=[0]) as trace:
        generate(pipe, call)
    assert {(site, query) for _, site, query, _ in seen(trace)} == asking


@torch.no_grad()
def test_a_pass_that_was_announced_is_over_when_its_context_is_left():
    transformer = BUILDERS["wan_t2v"]()[0].transformer

    def run(text):
        transformer(
            hidden_states=torch.randn(1, 16, 1, 2, 2), timestep=torch.tensor([900.0]), encoder_hidden_states=text
        )

    with observe(transformer) as trace:
        with transformer.cache_context("cond"):
            run(torch.zeros(1, 24, 32))
        run(torch.ones(1, 24, 32))
    assert {fact.branch for fact in trace.facts} == {"cond", "unknown"}
