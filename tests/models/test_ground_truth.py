"""Every site and stream of every family, against softmax(gain · q kᵀ / √d) v written out here.

The layouts below are derived by hand from how diffusers packs the sequence, and checked by changing one input at a
time; nothing in them comes from alignvid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend
from diffusers.models.transformers import transformer_hunyuan_video, transformer_wan
from torch import Tensor, nn

import alignvid
from alignvid import Recipe, Scalar, StepWindow
from pipelines import BUILDERS, generate

GAMMA = 1.35
TOLERANCE = 1e-6  # fp32 rounds at 6e-8 of values around 1; a gain one per mille off would show at 1e-4 and more


diffusers_attention = transformer_wan.dispatch_attention_fn


class Keys(NamedTuple):
    """The keys of one attention of each block in a stack."""

    stack: str
    attention: str
    tokens: dict[str, int]
    """Tokens by target, in the order of the sequence."""


# 16x32 pixels, 9 frames -> latents 3x2x4 -> patches (1, 2, 2) -> 3 frames of 1x2 tokens
_WAN_SELF = Keys("blocks", "attn1", {"self.video": 6})
# 16x32 pixels, 9 frames -> latents 3x2x4 -> patches of 1 -> 3 frames of 8 tokens; 24 text tokens
_HUNYUAN_FRAME = 8
# 32x48 pixels -> latents 4x6. 4x history: 16 frames, kernel (4, 8, 8), padded up -> 4x1x1. 2x history: 2 frames, kernel
# (2, 4, 4) -> 1x1x2. Clean: the image and 1 frame, kernel (1, 2, 2) -> 2x2x3. Video: 4 frames of 2x3. SigLIP: (8 / 2)².
# Text: 20 tokens, cropped to the 14 valid ones.
_FRAMEPACK = {"history": 4 * 1 * 1 + 1 * 1 * 2 + 2 * 2 * 3, "video": 4 * 2 * 3, "image": 16, "text": 14}


def _double_and_single(tokens: Mapping[str, int]) -> list[Keys]:
    return [
        Keys("transformer_blocks", "attn", {f"double.{stream}": count for stream, count in tokens.items()}),
        Keys("single_transformer_blocks", "attn", {f"single.{stream}": count for stream, count in tokens.items()}),
    ]


LAYOUTS = {
    "wan_t2v": [_WAN_SELF, Keys("blocks", "attn2", {"cross.text": 24})],
    "wan_i2v": [
        _WAN_SELF,
        Keys("blocks", "attn2", {"cross.image": 4 * 4 + 1}),
        Keys("blocks", "attn2", {"cross.text": 512}),
    ],
    "wan_flf2v": [
        _WAN_SELF,
        Keys("blocks", "attn2", {"cross.image": 2 * (4 * 4 + 1)}),
        Keys("blocks", "attn2", {"cross.text": 512}),
    ],
    "wan22_i2v": [_WAN_SELF, Keys("blocks", "attn2", {"cross.text": 24})],
    "wan22_ti2v_5b": [
        Keys("blocks", "attn1", {"self.image": 2, "self.video": 4}),
        Keys("blocks", "attn2", {"cross.text": 24}),
    ],
    "wan22_ti2v_5b_t2v": [_WAN_SELF, Keys("blocks", "attn2", {"cross.text": 24})],
    "wan_vace": [
        _WAN_SELF,
        Keys("blocks", "attn2", {"cross.text": 24}),
        Keys("vace_blocks", "attn1", {"self.video": 6}),
        Keys("vace_blocks", "attn2", {"cross.text": 24}),
    ],
    "hunyuan_t2v": _double_and_single({"video": 3 * _HUNYUAN_FRAME, "text": 24}),
    "hunyuan_i2v_latent_concat": _double_and_single({"video": 3 * _HUNYUAN_FRAME, "text": 24}),
    "hunyuan_i2v_token_replace": _double_and_single({"image": _HUNYUAN_FRAME, "video": 2 * _HUNYUAN_FRAME, "text": 24}),
    "framepack_v1_three_sections": _double_and_single(_FRAMEPACK),
    "framepack_f1": _double_and_single(_FRAMEPACK),
}

TARGETS = [
    (name, target) for name, layout in LAYOUTS.items() for target in {t: 0 for keys in layout for t in keys.tokens}
]


class Forward(NamedTuple):
    """What one forward of a transformer computed."""

    attentions: list[Tensor]
    """Output of every attention, in the order of execution."""
    sample: Tensor


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, gain: Tensor) -> Tensor:
    """softmax(gain · q kᵀ / √d) v, one gain per key; tensors are (batch, tokens, heads, size)."""
    logits = gain * torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), value)


def forward(
    transformer: nn.Module,
    arguments: Mapping[str, Any],
    attention: Callable[..., Tensor] | None,
    following: Forward | None = None,
) -> Forward:
    """Run a transformer, each attention computed by `attention(name, query, key, value, mask)` or as diffusers does.

    With `following`, the run continues with the outputs of that one: each softmax then has the same inputs as there,
    and rounding does not add up from block to block. What is given back is still what `attention` computed.
    """
    outputs, running = [], [""]

    def dispatch(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        if attention is None:
            outputs.append(diffusers_attention(query, key, value, attn_mask=attn_mask, **options))
        else:
            outputs.append(attention(running[0], query, key, value, attn_mask))
        return outputs[-1] if following is None else following.attentions[len(outputs) - 1]

    with ExitStack() as undo, torch.no_grad():
        for name, module in transformer.named_modules():
            if hasattr(module, "to_q"):
                hook = module.register_forward_pre_hook(lambda *_, name=name: running.__setitem__(0, name))
                undo.callback(hook.remove)
        for host in (transformer_wan, transformer_hunyuan_video):
            undo.enter_context(patch.object(host, "dispatch_attention_fn", dispatch))
        return Forward(outputs, transformer(**arguments, return_dict=False)[0])


def ground_truth(
    transformer: nn.Module,
    arguments: Mapping[str, Any],
    layout: list[Keys],
    gains: Mapping[str, float],
    blocks: list[int],
    following: Forward | None = None,
) -> Forward:
    """The forward with the explicit attention, and these gains by target in these blocks of each stack."""

    def attention(name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        gain = torch.ones(key.shape[1])
        for keys in layout:
            names = [f"{keys.stack}.{block}.{keys.attention}" for block in blocks]
            if name in names and key.shape[1] == sum(keys.tokens.values()):
                gain = torch.cat([torch.full((count,), gains.get(t, 1.0)) for t, count in keys.tokens.items()])
        return softmax_attention(query, key, value, mask, gain)

    return forward(transformer, arguments, attention, following)


def last_forwards(pipe: Any, call: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments that each transformer got last in a real run."""
    arguments: dict[str, dict[str, Any]] = {}
    transformers = {name: pipe.components.get(name) for name in ("transformer", "transformer_2")}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: arguments.update({name: dict(kwargs)}), with_kwargs=True
        )
        for name, module in transformers.items()
        if module is not None
    ]
    generate(pipe, call)
    for hook in hooks:
        hook.remove()
    for kwargs in arguments.values():
        kwargs.pop("return_dict")
    return arguments


def recipe(powers: Mapping[str, float], layout: list[Keys], blocks: str = "0,2") -> Recipe:
    stacks = {keys.stack for keys in layout if set(keys.tokens) & set(powers)}
    return Recipe(Scalar(GAMMA, powers), alignvid.BlockSet.of(dict.fromkeys(stacks, blocks)), StepWindow.all())


def largest_difference(one: Forward, other: Forward) -> float:
    pairs = zip([*one.attentions, one.sample], [*other.attentions, other.sample], strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.exercises("explicit softmax")
@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_one_target_is_the_explicit_softmax(name, target):
    pipe, call = BUILDERS[name]()
    layout = LAYOUTS[name]
    for host, arguments in last_forwards(pipe, call).items():
        transformer = getattr(pipe, host)
        untouched = forward(transformer, arguments, None)
        with alignvid.attach(pipe, recipe({target: 2.0}, layout)):
            actual = forward(transformer, arguments, None)
        expected = ground_truth(transformer, arguments, layout, {target: GAMMA**2}, [0, 2], following=actual)
        assert largest_difference(actual, expected) <= TOLERANCE
        assert largest_difference(actual, untouched) > 100 * TOLERANCE


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_targets_together_are_the_explicit_softmax(name):
    pipe, call = BUILDERS[name]()
    layout = LAYOUTS[name]
    targets = sorted({target for keys in layout for target in keys.tokens})
    powers = dict(zip(targets, (1.0, -1.0, 2.0, 0.5, 3.0, -2.0, 1.5, 0.0), strict=False))
    gains = {target: GAMMA**power for target, power in powers.items()}
    for host, arguments in last_forwards(pipe, call).items():
        transformer = getattr(pipe, host)
        with alignvid.attach(pipe, recipe(powers, layout)):
            actual = forward(transformer, arguments, None)
        expected = ground_truth(transformer, arguments, layout, gains, [0, 2], following=actual)
        assert largest_difference(actual, expected) <= TOLERANCE


EVERYWHERE, FIRST_FRAME, LATER_FRAMES = (
    slice(None),
    (slice(None), slice(None), 0),
    (slice(None), slice(None), slice(1, None)),
)

INPUTS = {
    # pipeline: the inputs that the tokens of each target come from
    "wan_i2v": {
        "self.video": {"hidden_states": EVERYWHERE},
        "cross.image": {"encoder_hidden_states_image": EVERYWHERE},
        "cross.text": {"encoder_hidden_states": EVERYWHERE},
    },
    "wan22_ti2v_5b": {
        "self.image": {"hidden_states": FIRST_FRAME},
        "self.video": {"hidden_states": LATER_FRAMES},
        "cross.text": {"encoder_hidden_states": EVERYWHERE},
    },
    "hunyuan_t2v": {
        f"{site}.{stream}": {source: EVERYWHERE}
        for site in ("double", "single")
        for stream, source in {"video": "hidden_states", "text": "encoder_hidden_states"}.items()
    },
    "hunyuan_i2v_token_replace": {
        f"{site}.{stream}": {source: part}
        for site in ("double", "single")
        for stream, source, part in (
            ("image", "hidden_states", FIRST_FRAME),
            ("video", "hidden_states", LATER_FRAMES),
            ("text", "encoder_hidden_states", EVERYWHERE),
        )
    },
    "framepack_v1_three_sections": {
        f"{site}.{stream}": dict.fromkeys(sources, EVERYWHERE)
        for site in ("double", "single")
        for stream, sources in {
            "history": ("latents_history_4x", "latents_history_2x", "latents_clean"),
            "video": ("hidden_states",),
            "image": ("image_embeds",),
            "text": ("encoder_hidden_states",),
        }.items()
    },
}


def first_keys(transformer: nn.Module, arguments: Mapping[str, Any], keys: Keys) -> Tensor:
    """Keys that the first block of a stack attends to, before any attention has mixed the tokens."""
    seen = []

    def attention(name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if name == f"{keys.stack}.0.{keys.attention}" and key.shape[1] == sum(keys.tokens.values()):
            seen.append(key)
        return softmax_attention(query, key, value, mask, torch.ones(key.shape[1]))

    forward(transformer, arguments, attention)
    return seen[0]


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, inputs in INPUTS.items() for target in inputs])
def test_the_layout_above_is_where_an_input_turns_up(name, target):
    pipe, call = BUILDERS[name]()
    arguments = last_forwards(pipe, call)["transformer"]
    keys = next(keys for keys in LAYOUTS[name] if target in keys.tokens)
    if keys.stack == "single_transformer_blocks":
        pipe.transformer.transformer_blocks = nn.ModuleList()
    changed_inputs = {}
    for source, part in INPUTS[name][target].items():
        changed_inputs[source] = arguments[source].clone()
        changed_inputs[source][part] += torch.randn_like(changed_inputs[source][part])
    before = first_keys(pipe.transformer, arguments, keys)
    after = first_keys(pipe.transformer, {**arguments, **changed_inputs}, keys)
    changed = (before != after).flatten(2).any(-1)[0].nonzero().flatten().tolist()
    start = sum(list(keys.tokens.values())[: list(keys.tokens).index(target)])
    assert changed == list(range(start, start + keys.tokens[target]))


BFLOAT16_TOLERANCE = 2**-8  # relative to the output's norm; bf16 rounds keys and output at 2**-9 each


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("wan_t2v", "self.video"),
        ("wan_i2v", "cross.text"),
        ("wan_i2v", "cross.image"),
        ("framepack_f1", "double.history"),
    ],
)
def test_in_bfloat16_only_rounding_separates_it_from_the_explicit_softmax(name, target):
    pipe, call = BUILDERS[name]()
    pipe.transformer.to(torch.bfloat16)
    arguments = last_forwards(pipe, call)["transformer"]
    keys = next(keys for keys in LAYOUTS[name] if target in keys.tokens)
    gain = torch.cat([torch.full((count,), GAMMA**2 if t == target else 1.0) for t, count in keys.tokens.items()])
    is_gained = []

    def attention(name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        is_gained.append(name == f"{keys.stack}.0.{keys.attention}" and key.shape[1] == len(gain))
        if is_gained[-1]:
            return softmax_attention(query.float(), key.float(), value.float(), mask, gain)
        return diffusers_attention(query, key, value, attn_mask=mask)

    expected = forward(pipe.transformer, arguments, attention).attentions[is_gained.index(True)]
    with alignvid.attach(pipe, recipe({target: 2.0}, LAYOUTS[name], blocks="0")):
        actual = forward(pipe.transformer, arguments, None).attentions[is_gained.index(True)]
    assert actual.dtype == torch.bfloat16
    assert (actual - expected).norm() / expected.norm() <= BFLOAT16_TOLERANCE
    plain = forward(pipe.transformer, arguments, None).attentions[is_gained.index(True)]
    assert (plain - expected).norm() / expected.norm() > 4 * BFLOAT16_TOLERANCE


@pytest.mark.parametrize("name", ["hunyuan_t2v", "framepack_f1"])
def test_prompts_of_different_length_in_one_batch_are_masked_as_in_the_explicit_softmax(name):
    pipe, call = BUILDERS[name]()
    arguments = {
        key: torch.cat([value, value]) if isinstance(value, Tensor) and not key.startswith("indices") else value
        for key, value in last_forwards(pipe, call)["transformer"].items()
    }
    arguments["encoder_attention_mask"][1, 9:] = 0.0
    text_tokens = arguments["encoder_hidden_states"].shape[1]  # with two prompts FramePack masks text and crops nothing
    layout = [
        keys._replace(tokens=keys.tokens | {t: text_tokens for t in keys.tokens if t.endswith(".text")})
        for keys in LAYOUTS[name]
    ]
    powers = {
        f"{site}.{stream}": power for site in ("double", "single") for stream, power in (("video", 1.0), ("text", 2.0))
    }
    gains = {target: GAMMA**power for target, power in powers.items()}
    expected = ground_truth(pipe.transformer, arguments, layout, gains, blocks=[0, 2])
    with alignvid.attach(pipe, recipe(powers, layout)):
        actual = forward(pipe.transformer, arguments, None)
    assert largest_difference(actual, expected) <= TOLERANCE


@pytest.mark.parametrize("is_fused_first", [True, False], ids=["fused before", "fused after"])
def test_fused_projections_change_nothing_of_it(is_fused_first):
    pipe, call = BUILDERS["wan_i2v"]()
    arguments = last_forwards(pipe, call)["transformer"]
    powers = {"cross.text": 2.0, "cross.image": 1.0, "self.video": -1.0}
    gains = {target: GAMMA**power for target, power in powers.items()}
    expected = ground_truth(pipe.transformer, arguments, LAYOUTS["wan_i2v"], gains, blocks=[0, 2])
    if is_fused_first:
        pipe.transformer.fuse_qkv_projections()
    with alignvid.attach(pipe, recipe(powers, LAYOUTS["wan_i2v"])):
        if not is_fused_first:
            pipe.transformer.fuse_qkv_projections()
        actual = forward(pipe.transformer, arguments, None)
    assert largest_difference(actual, expected) <= TOLERANCE


def test_another_attention_backend_changes_nothing_of_it():
    pipe, call = BUILDERS["framepack_f1"]()
    arguments = last_forwards(pipe, call)["transformer"]
    powers = {"double.history": 2.0, "single.text": 1.0, "single.video": -1.0}
    gains = {target: GAMMA**power for target, power in powers.items()}
    expected = ground_truth(pipe.transformer, arguments, LAYOUTS["framepack_f1"], gains, blocks=[0, 2])
    with alignvid.attach(pipe, recipe(powers, LAYOUTS["framepack_f1"])), attention_backend("_native_math"):
        actual = forward(pipe.transformer, arguments, None)
    assert largest_difference(actual, expected) <= TOLERANCE
