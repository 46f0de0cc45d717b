"""Families of video models beyond Wan, HunyuanVideo and FramePack: sites, streams and CFG branches, counted by hand.

What holds for every family alike is in test_families.py.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import SanaWMTransformer3DModel
from diffusers.modular_pipelines.minimax_h3.before_denoise import MiniMaxH3Ref2VAPrepareLayoutStep
from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import CosmosActionCondition
from torch import Tensor, nn

import alignvid
from alignvid import BlockSet, LogBias, Recipe, Scalar, StepWindow
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host import hosts
from alignvid.host.sites import targets_of
from alignvid.models.builtin import cosmos3, minimax_h3
from explicit_attention import Arguments, Keys, first_keys, forward, ground_truth, softmax_attention
from pipelines import Built, generate, other_prompt, picture
from registry import by_name, every_third
from video_pipelines import BUILDERS
from video_pipelines.ltx_siblings import ltx2_dfr_tiles
from video_pipelines.wan_like import skyreels_df_t2v_asynchronous

GAMMA = 1.35
TOLERANCE = 1e-6  # relative to the largest value; fp32 rounds at 6e-8, a gain one per mille off would show at 1e-4
AFTER_BLOCKS = 5 * TOLERANCE  # what rounding has become after all blocks
BFLOAT16 = 2**-8  # Kandinsky 5 rounds queries and keys to bfloat16 when it rotates them


@cache
def built(name: str) -> Built:
    return (BUILDERS | {"ltx2_dfr_tiles": ltx2_dfr_tiles})[name]()


def _self_and_cross(stack: str, attentions: tuple[str, str], video: dict[str, int], **others: int) -> list[Keys]:
    """Self-attention over `video`; cross-attention to each of the others, in a softmax of its own."""
    own = Keys(stack, attentions[0], {f"self.{stream}": count for stream, count in video.items()})
    return [own, *(Keys(stack, attentions[1], {f"cross.{stream}": count}) for stream, count in others.items())]


def _wan(video: dict[str, int], **others: int) -> list[Keys]:
    return _self_and_cross("blocks", ("attn1", "attn2"), video, **others)


def _ltx(video: dict[str, int], text: int = 16) -> list[Keys]:
    return _self_and_cross("transformer_blocks", ("attn1", "attn2"), video, text=text)


def _cosmos(**video: int) -> list[Keys]:
    return _ltx(video)


def _ltx2(video: dict[str, int], frames: int = 9, fps: int = 24, **remembered: int) -> list[Keys]:
    seconds = frames / fps
    sound = {**remembered, "audio": round(seconds * 16000 / 160 / 4)}  # per second: samples, hop, compression in time
    others = {
        "audio_attn1": {f"audio_self.{stream}": count for stream, count in sound.items()},
        "audio_attn2": {"audio_cross.text": 16},
        "audio_to_video_attn": {f"audio_to_video.{stream}": count for stream, count in sound.items()},
        "video_to_audio_attn": {f"video_to_audio.{stream}": count for stream, count in video.items()},
    }
    return _ltx(video) + [Keys("transformer_blocks", attention, tokens) for attention, tokens in others.items()]


def _kandinsky6(**video: int) -> list[Keys]:
    sound = math.ceil(9 / 24 * 44100 / (512 * 2))  # seconds, samples per second, hop and temporal compression
    streams = {
        "self": ("video_dec_block.self_attention", video),
        "cross": ("video_dec_block.cross_attention", {"text": 16}),
        "audio_self": ("audio_dec_block.self_attention", {"audio": sound}),
        "audio_cross": ("audio_dec_block.cross_attention", {"text": 16}),
        "audio_to_video": ("va_cross_attention", {"audio": sound}),
        "video_to_audio": ("av_cross_attention", video),
    }
    return [
        Keys("visual_transformer_blocks", path, {f"{site}.{stream}": count for stream, count in tokens.items()})
        for site, (path, tokens) in streams.items()
    ]


def _joint(site: str, stack: str, attention: str, **tokens: int) -> Keys:
    return Keys(stack, attention, {f"{site}.{stream}": count for stream, count in tokens.items()})


_DOUBLE, _SINGLE = "transformer_blocks", "single_transformer_blocks"
_COGVIDEOX = [_joint("single", _DOUBLE, "attn1", text=16, video=3 * 1 * 2)]  # latents 3x2x4, patches of 2
_EASYANIMATE = [
    _joint("double", _DOUBLE, "attn1", text=16, video=2 * 1 * 2),
    _joint("single", _DOUBLE, "attn1", text=16, video=2 * 1 * 2),
]
_CLIP = 4 * 4 + 1
_HELIOS = {"history": 1 + 1 + 2 * 1 * 2, "video": 3 * 1 * 2}  # long 4x2x4 / (4, 8, 8), mid 2x2x4 / (2, 4, 4), short 2
_PYRAMID_HISTORY = {"history": 1 + 1 * 1 * 2 + 2 * 2 * 4}  # the same, of 4x8 latents


def _sana_wm() -> list[Keys]:
    """Frames of 4x8 tokens; the camera's softmax is over the same ones."""
    twice = [
        _joint(site, "blocks", path, image=32, video=4 * 32)
        for site, path in (("self", "attn.attn"), ("camera", "attn.cam_attn"))
    ]
    return [_joint("cross", "blocks", "cross_attn", text=16), *twice]


def _cosmos3(*, prompt: int = 30, is_shared: bool = True, **others: int) -> list[Keys]:
    """Of the generated tokens; and, unless the text has a norm of its own for these, of the text: it is causal."""
    own = [_joint("double", "layers", "self_attn", text=prompt)] if is_shared else []
    return [_joint("double", "layers", "self_attn", text=prompt, **others), *own]


LAYOUTS = {
    # 32x64 pixels, 9 frames -> 3 latent frames of 2x4 tokens
    "ltx_t2v": _ltx({"video": 3 * 8}),
    "ltx_i2v": _ltx({"image": 8, "video": 2 * 8}),
    "ltx_condition": _ltx({"image": 2 * 8, "video": 2 * 8}),  # the later frame's tokens lie before the sequence
    "ltx2_t2v": _ltx2({"video": 5 * 4 * 8}),
    "ltx2_i2v": _ltx2({"image": 4 * 8, "video": 4 * 4 * 8}),
    "ltx2_condition": _ltx2({"image": 3 * 32, "video": 2 * 32, "condition": 32}),
    "ltx2_in_context": _ltx2({"image": 32, "video": 2 * 32, "condition": 3 * 32}, frames=5),
    "ltx2_hdr": _ltx2({"video": 3 * 32, "condition": 3 * 32}, frames=5),
    # of the second window: a frame of the first one's end, and one of the image
    "ltx_long_multi_prompt": _ltx({"video": 3 * 8, "condition": 8 + 8}, text=24),
    # frames of 4x8 tokens, in the reference of 2x4
    "ltx2_dfr": _ltx2({"image": 32, "video": 4 * 32, "condition": 32, "slots": 32, "reference": 5 * 8}),
    # of the second tile, which begins at the first frame: 25 frames, of which 60 make a second, in 13 latent ones
    "ltx2_dfr_refine": _ltx2({"image": 32, "video": 12 * 32, "condition": 2 * 32, "slots": 2 * 32}, 25, fps=60),
    "echo": _ltx2({"memory": 2 * 32, "image": 32, "video": 2 * 32}, frames=17, fps=25, audio_memory=5),
    "cogvideox_t2v": _COGVIDEOX,
    "cogvideox_i2v": _COGVIDEOX,
    "cogvideox_v2v": _COGVIDEOX,
    "cogvideox_control": _COGVIDEOX,
    "consisid": _COGVIDEOX,
    "hunyuan15_t2v": [_joint("double", _DOUBLE, "attn", video=3 * 4 * 8, text=7 + 16 + 5)],
    "hunyuan15_i2v": [_joint("double", _DOUBLE, "attn", video=3 * 5 * 10, image=2 * 2, text=16 + 5)],
    "hunyuan_skyreels_i2v": [
        _joint("double", _DOUBLE, "attn", video=3 * 8, text=24),
        _joint("single", _SINGLE, "attn", video=3 * 8, text=24),
    ],
    # text without padding: 9 tokens of the negative prompt, 12 of the prompt
    "mochi": [_joint("double", _DOUBLE, "attn1", video=2 * 1 * 2, text=valid) for valid in (9, 12)],
    "motif_t2v": [
        _joint("double", _DOUBLE, "attn", video=3 * 8, text=16),
        _joint("single", _SINGLE, "attn", video=3 * 8, text=16),
    ],
    "motif_i2v": [
        _joint("double", _DOUBLE, "attn", video=3 * 8, image=4 * 4, text=16),
        _joint("single", _SINGLE, "attn", video=3 * 8, image=4 * 4, text=16),
        _joint("decoder", _SINGLE, "attn", video=2 * 3 * 8),
        _joint("cross", _SINGLE, "cross_attn", text=16),
    ],
    "easyanimate": _EASYANIMATE,
    "easyanimate_inpaint": _EASYANIMATE,
    # 16x32 pixels, 9 frames -> 3 latent frames of 1x2 tokens
    "wan_v2v": _wan({"video": 6}, text=24),
    "lucy_edit": _wan({"video": 6}, text=24),
    "wan_animate": [
        *_wan({"image": 2, "video": 2 * 2}, image=_CLIP, text=512),
        Keys("face_adapter", "", {"face.face": 2 + 1}),
    ],
    "chronoedit": _wan({"video": 2 * 2}, image=_CLIP, text=512),
    "skyreels_t2v": _wan({"video": 6}, text=24),
    "skyreels_i2v": _wan({"video": 6}, image=_CLIP, text=512),
    "skyreels_df_t2v": _wan({"video": 6}, text=24),
    "skyreels_df_i2v": _wan({"image": 2, "video": 4}, text=24),
    "skyreels_df_v2v": _wan({"video": 6}, text=24),
    "helios": _wan(_HELIOS, text=24),
    "helios_pyramid": _wan(_PYRAMID_HISTORY | {"video": 3 * 2 * 4}, text=24),
    "anyflow": _wan({"video": 6}, text=24),
    # self-attention of these two is by blocks, which is no call of torch's that could be replaced
    "anyflow_far": [Keys("blocks", "attn2", {"cross.text": 24})],
    "wan_animate2": [
        Keys("blocks", "cross_attn", {"cross.text": 24}),
        Keys("blocks", "cross_attn", {"cross.image": 5}),
    ],
    # frames of 2x4 tokens, two channels of sound
    "minimax_h3_fl2v": [_joint("single", _DOUBLE, "attn", text=5, image=8, audio=2 * 3, video=2 * 8)],
    # 32x64 pixels, 17 frames -> 5 latent frames of 2x4 tokens
    "kandinsky5_t2v": _self_and_cross(
        "visual_transformer_blocks", ("self_attention", "cross_attention"), {"video": 5 * 8}, text=16
    ),
    "kandinsky5_i2v": _self_and_cross(
        "visual_transformer_blocks", ("self_attention", "cross_attention"), {"image": 8, "video": 4 * 8}, text=16
    ),
    "kandinsky6_t2v": _kandinsky6(video=3 * 8),
    "kandinsky6_i2v": _kandinsky6(video=3 * 8, image=8),
    "sana_video_t2v": [_joint("cross", _DOUBLE, "attn2", text=16)],
    "sana_video_t2v_without_norms": [_joint("cross", _DOUBLE, "attn2", text=16)],
    "sana_video_i2v": [_joint("cross", _DOUBLE, "attn2", text=16)],
    "allegro": _self_and_cross(_DOUBLE, ("attn1", "attn2"), {"video": 2 * 1 * 2}, text=16),
    # 32x64 pixels, 9 frames -> 3 latent frames of 4x8 tokens, or 2x4
    "cosmos1_t2w": _cosmos(video=3 * 32),
    "cosmos1_v2w": _cosmos(image=32, video=2 * 32),
    "cosmos2_t2i": _cosmos(video=8),
    "cosmos2_v2w": _cosmos(image=8, video=2 * 8),
    "cosmos25_t2w": _cosmos(video=3 * 8),
    "cosmos25_v2w": _cosmos(image=2 * 8, video=8),
    "cosmos25_transfer": _cosmos(image=8, video=8),
    "anima": _cosmos(video=8),  # 16x32 pixels, 4 a latent
    "anima_img2img": _cosmos(video=8),
    "sana_wm": _sana_wm(),
    # the cache as it is after the run: a first frame and four refined ones; one frame at hand
    "sana_wm_refiner": [
        _joint("self", _DOUBLE, "attn1", kept=5 * 32, video=32),
        _joint("cross", _DOUBLE, "attn2", text=16),
    ],
    # a prompt of 18 tokens and 12 of the template; frames of 2x4 tokens
    "cosmos3_t2v": _cosmos3(video=3 * 8, audio=8),
    "cosmos3_i2v": _cosmos3(image=8, video=2 * 8),
    "cosmos3_v2v": _cosmos3(image=2 * 8, video=8, is_shared=False),
    "cosmos3_policy": _cosmos3(prompt=249, image=8, video=2 * 8, action=8),
    "cosmos3_transfer": _cosmos3(image=2 * 3 * 8, video=3 * 8),
    "cosmos3_distilled": _cosmos3(image=8, video=2 * 8),
    "latte": [
        *_self_and_cross(_DOUBLE, ("attn1", "attn2"), {"video": 2 * 2}, text=16),
        Keys("temporal_transformer_blocks", "attn1", {"temporal.video": 3}),
    ],
}


LATE = {"cosmos3_transfer": -3}  # guidance takes three passes, of which one has no control videos


@cache
def late_forward(name: str) -> Arguments:
    """The arguments of a forward late in a real run: the last but one, conditional where guidance takes two passes."""
    return forwards(name)[LATE.get(name, -2)]


@cache
def forwards(name: str) -> list[Arguments]:
    """The arguments of every forward of a real run."""
    pipe, call = built(name)
    seen: list[Arguments] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(Arguments((), named(pipe.transformer, args, kwargs)))

    handle = pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    generate(pipe, call)
    handle.remove()
    return seen


def named(transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a forward by name."""
    return dict(zip(list(inspect.signature(type(transformer).forward).parameters)[1:], args, strict=False)) | kwargs


def relative_difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / one.abs().max().clamp(min=1.0)).item()


def test_every_pipeline_has_a_layout():
    assert set(LAYOUTS) == set(BUILDERS)


@pytest.mark.exercises("explicit softmax")
@pytest.mark.parametrize("name", by_name(LAYOUTS))
def test_each_target_is_the_explicit_softmax(name):
    assert_explicit(name, LAYOUTS[name], late_forward(name))


def test_the_history_of_a_pyramid_has_its_full_size_where_the_video_is_small_still():
    first_of_second_chunk = forwards("helios_pyramid")[6]
    assert_explicit("helios_pyramid", _wan(_PYRAMID_HISTORY | {"video": 3 * 1 * 2}), first_of_second_chunk)


def test_the_first_window_of_a_long_video_begins_with_the_image():
    layout = _ltx({"image": 8, "video": 2 * 8, "condition": 8}, text=24)
    assert_explicit("ltx_long_multi_prompt", layout, forwards("ltx_long_multi_prompt")[0])


@pytest.mark.slow
def test_tiles_of_dfr_have_what_is_given_and_made_for_their_part_alone():
    """The tiny transformer takes a latent frame for 8 frames, so that the keyframes at 5 and 8 are the first tile's."""
    first = {"image": 32, "video": 2 * 32, "condition": 32, "slots": 32, "reference": 3 * 8}
    second = {"video": 3 * 32, "condition": 3 * 8}
    for layout, arguments in zip((first, second), forwards("ltx2_dfr_tiles"), strict=False):
        assert_explicit("ltx2_dfr_tiles", _ltx2(layout), arguments)


def test_every_tile_of_dfr_is_conditional():
    pipe, call = built("ltx2_dfr_tiles")
    with alignvid.attach(pipe, steps=(0.0, 0.3), branch="cond") as attachment:
        assert acted_samples(pipe, call, attachment) == [[True], [True], [False], [False]]
    with alignvid.attach(pipe, branch="uncond") as attachment:
        assert not any(map(any, acted_samples(pipe, call, attachment)))


def assert_explicit(name: str, layout: list[Keys], arguments: Arguments) -> None:
    """A gain on each target of a layout is that gain in the softmax written out, in a forward with these arguments."""
    pipe = built(name)[0]
    untouched = forward(pipe.transformer, arguments)
    for target in {target: None for keys in layout for target in keys.tokens if not target.endswith(".kept")}:
        stacks = {keys.stack for keys in layout if target in keys.tokens}
        recipe = Recipe(Scalar(GAMMA, {target: 2.0}), BlockSet.of(dict.fromkeys(stacks, "all")), StepWindow.all())
        of_target = [keys for keys in layout if target in keys.tokens and _belongs(keys, target)]
        blocks = _blocks(pipe, name, target)
        expected = ground_truth(pipe.transformer, arguments, of_target, {target: GAMMA**2}, blocks)
        with alignvid.attach(pipe, recipe):
            actual = forward(pipe.transformer, arguments)
        tolerances = TOLERANCE, AFTER_BLOCKS
        if name.startswith("kandinsky5") and target.startswith("self"):
            tolerances = BFLOAT16, BFLOAT16
        differences = [relative_difference(*pair) for pair in zip(actual.attentions, expected.attentions, strict=True)]
        effects = [relative_difference(*pair) for pair in zip(actual.attentions, untouched.attentions, strict=True)]
        first = next(index for index, effect in enumerate(effects) if effect > 0.0)
        assert effects[first] > 4 * tolerances[0], target
        assert differences[first] <= tolerances[0], target
        assert max(*differences, relative_difference(actual.sample, expected.sample)) <= tolerances[1], target


def _belongs(keys: Keys, target: str) -> bool:
    return all(name.split(".")[0] == target.split(".")[0] for name in keys.tokens)


def _blocks(pipe: Any, name: str, target: str) -> list[int]:
    """All blocks, but where two kinds of block lie in one stack."""
    if name.startswith("easyanimate"):
        return [0, 1] if target.startswith("double") else [2, 3]
    if name == "motif_i2v" and not target.startswith("double"):
        return [2] if target.startswith("decoder") else [0, 1]
    return list(range(4))


FIRST_FRAME = {
    # pipeline: latents of the reference's frame, and of the later ones, in the transformer's input
    "wan_animate": ((slice(None), slice(None), 0), (slice(None), slice(None), slice(1, None))),
    "skyreels_df_i2v": ((slice(None), slice(None), 0), (slice(None), slice(None), slice(1, None))),
    "kandinsky5_i2v": ((slice(None), 0), (slice(None), slice(1, None))),
    "cosmos1_v2w": ((slice(None), slice(None), 0), (slice(None), slice(None), slice(1, None))),
    "cosmos2_v2w": ((slice(None), slice(None), 0), (slice(None), slice(None), slice(1, None))),
    "cosmos25_v2w": ((slice(None), slice(None), slice(2)), (slice(None), slice(None), slice(2, None))),
    "ltx_i2v": ((slice(None), slice(8)), (slice(None), slice(8, None))),
    "ltx2_i2v": ((slice(None), slice(32)), (slice(None), slice(32, None))),
    "cosmos25_transfer": ((slice(None), slice(None), 0), (slice(None), slice(None), slice(1, None))),
}


@pytest.mark.parametrize("name", by_name(FIRST_FRAME))
def test_image_keys_are_those_of_the_first_frame_and_video_keys_of_the_later_ones(name):
    pipe, arguments = built(name)[0], late_forward(name)
    keys = next(keys for keys in LAYOUTS[name] if "self.image" in keys.tokens)
    before = first_keys(pipe.transformer, arguments, keys)
    image = keys.tokens["self.image"]
    for part, expected in zip(FIRST_FRAME[name], (range(image), range(image, before.shape[2])), strict=True):
        changed = arguments.kwargs["hidden_states"].clone()
        changed[part] += torch.randn_like(changed[part])
        after = first_keys(pipe.transformer, Arguments((), arguments.kwargs | {"hidden_states": changed}), keys)
        assert (before != after).any(1).any(-1)[0].nonzero().flatten().tolist() == list(expected)


CLEAN = {
    # pipeline: tokens for each timestep of a sample
    "ltx_i2v": 1,
    "ltx_condition": 1,
    "ltx2_i2v": 1,
    "ltx2_condition": 1,
    "ltx2_in_context": 1,
    "ltx2_hdr": 1,
    "skyreels_df_i2v": 2,
    "sana_wm": 4 * 8,
}


@pytest.mark.parametrize("name", by_name(CLEAN))
def test_keys_of_references_are_exactly_those_whose_timestep_is_0(name):
    timestep = late_forward(name).kwargs["timestep"]
    layout = next(keys.tokens for keys in LAYOUTS[name] if "self.video" in keys.tokens)
    is_clean = (timestep[-1].flatten() == 0).repeat_interleave(CLEAN[name])
    assert is_clean.tolist() == [target != "self.video" for target, count in layout.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("hunyuan15_i2v", "image_embeds", "double.image"),
        ("hunyuan15_i2v", "hidden_states", "double.video"),
        ("hunyuan15_t2v", "encoder_hidden_states", "double.text"),
        ("motif_i2v", "image_embeds", "double.image"),
        ("motif_i2v", "encoder_hidden_states", "double.text"),
        ("easyanimate", "encoder_hidden_states", "double.text"),
        ("cogvideox_i2v", "encoder_hidden_states", "single.text"),
        ("cogvideox_i2v", "hidden_states", "single.video"),
        ("consisid", "encoder_hidden_states", "single.text"),
        ("helios", "latents_history_long", "self.history"),
        ("helios", "latents_history_short", "self.history"),
        ("helios", "hidden_states", "self.video"),
        ("minimax_h3_fl2v", "encoder_hidden_states", "single.text"),
        ("minimax_h3_fl2v", "audio_hidden_states", "single.audio"),
    ],
)
def test_an_input_turns_up_in_the_keys_of_its_stream_and_nowhere_else(name, source, target):
    pipe, arguments = built(name)[0], late_forward(name)
    keys = next(keys for keys in LAYOUTS[name] if target in keys.tokens)
    before = first_keys(pipe.transformer, arguments, keys)
    given = arguments.kwargs
    changed = {source: given[source] + torch.randn_like(given[source])}
    after = first_keys(pipe.transformer, Arguments((), given | changed), keys)
    tokens = (before != after).any(1).any(-1)[0].nonzero().flatten().tolist()
    names, ends = list(keys.tokens), [0]
    for count in keys.tokens.values():
        ends.append(ends[-1] + count)
    start, stop = list(pairwise(ends))[names.index(target)]
    assert tokens
    assert set(tokens) <= set(range(start, stop))


FIRST_STEP = {  # forwards of the first step, where a video is made chunk by chunk, each with a schedule of its own
    "helios": (0, 1, 4, 5),
    "helios_pyramid": (0, 1, 6, 7),
    "cosmos25_transfer": (0, 1, 4, 5),
    "ltx_long_multi_prompt": (0, 2),
    "anyflow_far": (0, 3),  # the third one computes the keys to be kept
    "wan_animate2": (1, 2),  # the first one does
}
WITHOUT_GUIDANCE = {"minimax_h3_fl2v", "ltx2_dfr", "ltx2_dfr_refine", "echo", "cosmos3_distilled", "sana_wm_refiner"}


@pytest.mark.exercises("CFG branch")
@pytest.mark.parametrize("name", every_third(name for name in BUILDERS if name not in WITHOUT_GUIDANCE))
def test_only_the_chosen_branch_acts_in_the_first_step(name):
    pipe, call = built(name)
    texts = [given_texts(pipe, one) for one in (call, other_prompt(call))]
    is_cond = [(one != other).flatten(1).any(1).tolist() for one, other in zip(*texts, strict=True)]
    assert {sample for samples in is_cond for sample in samples} == {True, False}
    first_step = FIRST_STEP.get(name, range(len(is_cond) // 2))
    for branch in ("cond", "uncond"):
        with alignvid.attach(pipe, steps=(0.0, 0.3), branch=branch) as attachment:
            acted = acted_samples(pipe, call, attachment)
        assert acted == [
            [index in first_step and sample == (branch == "cond") for sample in samples]
            for index, samples in enumerate(is_cond)
        ], branch


def text_in(arguments: dict[str, Any]) -> Tensor:
    """The text that a transformer is given, sample by sample: an embedding, or the tokens that it embeds itself."""
    states = arguments.get("encoder_hidden_states")
    return arguments["input_ids"].unsqueeze(0) if states is None else torch.stack(list(states))


def given_texts(pipe: Any, call: dict[str, Any]) -> list[Tensor]:
    """The text that the transformer is given in each forward."""
    texts: list[Tensor] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: texts.append(text_in(named(module, args, kwargs))), with_kwargs=True
    )
    generate(pipe, call)
    handle.remove()
    return texts


def acted_samples(pipe: Any, call: dict[str, Any], attachment: alignvid.Attachment) -> list[list[bool]]:
    """Which samples of each forward left the first module with keys of text with other keys than it computes."""
    module = next(
        item.location.norm for item in attachment.placements["transformer"] if "text" in item.location.keys.streams
    )
    plain_forward = type(module).__bases__[0].forward
    batches: list[int] = []
    acted: list[list[bool]] = []

    def compare(module: nn.Module, args: tuple[Tensor], keys: Tensor) -> None:
        is_other = (keys - plain_forward(module, *args)).abs().flatten(1).amax(1) > 1e-4
        acted.append(is_other.view(batches[-1], -1).all(1).tolist())

    handles = [
        pipe.transformer.register_forward_pre_hook(
            lambda module, args, kwargs: batches.append(len(text_in(named(module, args, kwargs)))), with_kwargs=True
        ),
        module.register_forward_hook(compare),
    ]
    generate(pipe, call)
    for handle in handles:
        handle.remove()
    return acted


@pytest.mark.parametrize("name", ["cogvideox_t2v", "latte", "mochi"])
def test_two_prompts_without_guidance_are_both_conditional(name):
    pipe, call = built(name)
    two = {key: torch.cat([value, value]) for key, value in call.items() if isinstance(value, Tensor)}
    with alignvid.attach(pipe, branch="cond") as attachment:
        acted = acted_samples(pipe, call | two | {"guidance_scale": 1.0}, attachment)
    assert acted == [[True, True], [False, False]]


def test_frames_of_different_noise_are_in_the_window_of_the_noisiest():
    pipe, call = skyreels_df_t2v_asynchronous()
    noisiest: list[float] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: noisiest.append(float(kwargs["timestep"].max())), with_kwargs=True
    )
    with alignvid.attach(pipe, steps=StepWindow.noise_above(0.9)) as attachment:
        acted = acted_samples(pipe, call, attachment)
    handle.remove()
    assert acted == [[level > 900] for level in noisiest]
    assert 0 < sum(samples[0] for samples in acted) < len(acted)


SHARED_SOFTMAX = [
    name
    for name, layout in LAYOUTS.items()
    if any(len(keys.tokens) > 1 and "self.kept" not in keys.tokens for keys in layout)
]


@pytest.mark.parametrize("name", by_name(SHARED_SOFTMAX))
def test_a_log_bias_acts_or_is_refused_with_the_reason(name):
    pipe, arguments = built(name)[0], late_forward(name)
    keys = next(keys for keys in LAYOUTS[name] if len(keys.tokens) > 1)
    target = list(keys.tokens)[-1]
    recipe = Recipe(LogBias(2.0, {target: 1.0}), BlockSet.of("all"), StepWindow.all())
    try:
        attachment = alignvid.attach(pipe, recipe)
    except UnknownTarget as refusal:
        assert "takes no attention mask of ours" in str(refusal)
        return
    with attachment:
        biased = forward(pipe.transformer, arguments)
    start = sum(keys.tokens.values()) - keys.tokens[target]

    def attention(name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: Any) -> Tensor:
        bias = torch.zeros(1, 1, 1, key.shape[2])
        if key.shape[2] == sum(keys.tokens.values()) and any(name == keys.name(block) for block in range(4)):
            bias[..., start:] = math.log(2.0)
        bias = (
            bias if mask is None else bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask
        )
        return softmax_attention(query, key, value, bias, scale, torch.ones(key.shape[2]))

    expected = forward(pipe.transformer, arguments, attention)
    differences = [relative_difference(*pair) for pair in zip(biased.attentions, expected.attentions, strict=True)]
    assert max(differences) <= AFTER_BLOCKS


def attributes(transformer: nn.Module) -> list[tuple[type, dict[str, Any]]]:
    return [
        (type(module), {key: len(value) if isinstance(value, dict) else None for key, value in vars(module).items()})
        for module in transformer.modules()
    ]


@pytest.mark.parametrize("name", ["latte", "sana_video_t2v_without_norms"])
def test_a_norm_that_is_put_in_is_taken_out_again(name):
    pipe, _ = BUILDERS[name]()
    before, weights = attributes(pipe.transformer), list(pipe.transformer.state_dict())
    with alignvid.attach(pipe, "generic"):
        assert pipe.transformer.transformer_blocks[0].attn2.norm_k is not None
        assert pipe.transformer.transformer_blocks[2].attn2.norm_k is None  # not one of the chosen blocks
        assert list(pipe.transformer.state_dict()) == weights
    assert attributes(pipe.transformer) == before
    assert pipe.transformer.transformer_blocks[0].attn2.norm_k is None


def test_a_projection_that_is_replaced_while_attached_is_an_error_that_says_what_to_do():
    pipe, call = BUILDERS["allegro"]()
    with alignvid.attach(pipe):
        attention = pipe.transformer.transformer_blocks[1].attn2
        attention.to_k = nn.Sequential(attention.to_k)  # as loading a LoRA does
        with pytest.raises(AttachmentError, match=r"to_k of block 1 .* another module .* detach and attach again"):
            generate(pipe, call)
    with alignvid.attach(pipe) as attachment:
        generate(pipe, call)
    assert attachment.acted_count > 0


def test_the_recurrence_of_sana_wm_is_refused_with_the_reason():
    pipe, _ = built("sana_wm")
    with pytest.raises(UnknownTarget, match=r"gated linear recurrence: it has no softmax .* Act on cross\.text, or"):
        alignvid.attach(pipe, streams=["linear.video"])


@pytest.mark.parametrize("every", [0, 9])
def test_a_sana_wm_without_softmax_blocks_has_the_text_alone(every):
    transformer = SanaWMTransformer3DModel(
        in_channels=4, num_layers=2, hidden_size=16, num_attention_heads=2, linear_head_dim=8, softmax_every_n=every
    )
    assert targets_of(hosts(transformer)[0]) == ("cross.text",)


def test_no_gain_acts_where_the_refiner_computes_keys_to_be_kept():
    """The first frame; then, after each of two chunks, its refined frames."""
    pipe, call = built("sana_wm_refiner")
    with alignvid.attach(pipe, steps="all") as attachment:
        acted = acted_samples(pipe, call, attachment)
    assert acted == [[False], *[[True], [True], [True], [False]] * 2]


@pytest.mark.parametrize("streams", [["self.video"], ["video"], ["self.*"]])
def test_linear_attention_is_refused_with_the_reason(streams):
    pipe, _ = built("sana_video_i2v")
    with pytest.raises(UnknownTarget, match=r"linear: it has no softmax .* Act on cross\.text"):
        alignvid.attach(pipe, streams=streams)


def test_a_gain_on_all_keys_of_linear_attention_would_do_nothing():
    """Why it is refused: what a hook of one's own finds."""
    pipe, arguments = built("sana_video_i2v")[0], late_forward("sana_video_i2v")
    plain = forward(pipe.transformer, arguments).sample
    norms = [block.attn1.norm_k for block in pipe.transformer.transformer_blocks]
    hooks = [norm.register_forward_hook(lambda module, args, keys: keys * GAMMA) for norm in norms]
    scaled = forward(pipe.transformer, arguments).sample
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(scaled, plain, atol=1e-5, rtol=1e-4)


def test_without_an_image_all_of_hunyuan15s_text_is_text_even_where_no_pipeline_says_so():
    """A bare transformer and a modular pipeline serve both tasks; the zeroed image tokens lie at the end."""
    pipe, arguments = built("hunyuan15_t2v")[0], late_forward("hunyuan15_t2v")
    recipe = Recipe(Scalar(GAMMA, {"*.text": 2.0, "*.image": 1.0}), BlockSet.of("all"), StepWindow.all())
    with alignvid.attach(pipe, recipe):
        expected = forward(pipe.transformer, arguments)
    with alignvid.attach(pipe.transformer, recipe):
        actual = forward(pipe.transformer, arguments)
    assert torch.equal(actual.sample, expected.sample)


@pytest.mark.parametrize("name", by_name(["ltx_long_multi_prompt", "ltx2_dfr", "echo"]))
def test_a_bare_transformer_has_the_streams_of_its_pipeline(name):
    pipe, arguments = built(name)[0], late_forward(name)
    targets = [target for keys in LAYOUTS[name] for target in keys.tokens]
    powers = {target: 1.0 + 0.2 * index for index, target in enumerate(targets)}
    recipe = Recipe(Scalar(GAMMA, powers), BlockSet.of("all"), StepWindow.all())
    outputs = []
    for model in (pipe, pipe.transformer):
        with alignvid.attach(model, recipe):
            outputs.append(forward(pipe.transformer, arguments).sample)
    assert torch.equal(*outputs)


def test_no_gain_acts_in_a_forward_whose_keys_are_kept():
    """AnyFlow FAR's second chunk looks back on the first one by keys of the third forward, whatever the window."""
    pipe, call = BUILDERS["anyflow_far"]()
    with alignvid.attach(pipe, streams=["text"], steps="all") as attachment:
        assert acted_samples(pipe, call, attachment) == [[True, True]] * 2 + [[False, False]] + [[True, True]] * 2


@pytest.mark.parametrize("name", by_name(["cosmos3_i2v", "cosmos3_v2v", "cosmos3_transfer"]))
def test_clean_frames_of_cosmos3_are_image_and_noisy_ones_video(name):
    """Each frame is changed on its own; frames lie one after the other, those of control videos first."""
    pipe, arguments = built(name)[0], late_forward(name)
    keys = LAYOUTS[name][0]
    before, given = first_keys(pipe.transformer, arguments, keys), arguments.kwargs
    start = keys.tokens["double.text"]
    for item, latents in enumerate(given["vision_tokens"]):
        for frame in range(latents.shape[2]):
            changed = [one.clone() for one in given["vision_tokens"]]
            changed[item][:, :, frame] += 1.0
            after = first_keys(pipe.transformer, Arguments((), given | {"vision_tokens": changed}), keys)
            assert (before != after).any(1).any(-1)[0].nonzero().flatten().tolist() == list(range(start, start + 8))
            is_image = start + 8 <= keys.tokens["double.text"] + keys.tokens["double.image"]
            assert is_image == (frame not in given["vision_noisy_frame_indexes"][item].tolist())
            start += 8


def test_frames_that_are_given_between_generated_ones_count_as_video():
    pipe, call = built("cosmos3_v2v")
    with alignvid.attach(pipe, streams=["image"]) as attachment:
        generate(pipe, call | {"condition_frame_indexes_vision": (0, 2)})
    assert attachment.acted_count > 0
    arguments = late_forward("cosmos3_v2v").kwargs | {"vision_noisy_frame_indexes": [torch.tensor([1])]}
    counts = {"image": 8, "video": 2 * 8, "audio": 0, "action": 0}
    assert cosmos3.token_counts(pipe.transformer, arguments) == counts


def test_cosmos3_is_refused_where_it_makes_no_video():
    pipe, call = BUILDERS["cosmos3_policy"]()
    frames = [picture(64, 32)] * 9
    action = CosmosActionCondition("inverse_dynamics", 8, "pusht", resolution_tier=256, video=frames)
    with alignvid.attach(pipe), pytest.raises(AttachmentError, match="With all frames given, Cosmos 3 makes no video"):
        generate(pipe, call | {"action": action})


def test_given_and_generated_rows_of_minimax_are_told_apart_whatever_was_given():
    """References: a picture, a sound, a video with sound; a sound last, just before the sound that is made."""
    references = [SimpleNamespace(kind=kind, has_audio=kind == "video") for kind in ("image", "video", "audio")]
    latents = [torch.zeros(1, 4, 1, 4, 4), torch.zeros(1, 4, 2, 4, 4)]
    sounds = [torch.zeros(4, 8), torch.zeros(6, 8)]
    layout = MiniMaxH3Ref2VAPrepareLayoutStep.build_ref2va_packed_sequence(
        torch.ones(5), references, latents, sounds, 2, 4, 8, 3, (1, 2, 2), 2, 2, 0
    )
    names = ("position_ids", "token_tags", "video_indices", "audio_indices", "text_indices")
    arguments = dict(zip(names, layout, strict=False))
    given = 4 + (4 + 2 * 4) + 6
    assert minimax_h3.token_counts(None, arguments) == {"text": 5, "image": given, "audio": 2 * 3}
    assert len(layout[0]) == 5 + given + 2 * 3 + 2 * 8
