"""Every site and stream of the image and editing families, against softmax(gain · q kᵀ / √d) v written out.

As in test_ground_truth.py, the layouts are derived by hand from how diffusers packs the sequence, and checked by
changing one input at a time; nothing in them comes from alignvid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid import Recipe, Scalar, StepWindow
from alignvid.errors import AttachmentError, UnknownTarget, UnsupportedModel
from explicit_attention import Arguments, Forward, Keys, first_keys, forward, ground_truth, largest_difference
from pipelines import generate
from registry import BUILDERS, by_name

GAMMA = 1.35
TOLERANCE = 1e-6  # fp32 rounds at 6e-8 of values around 1; a gain one per mille off would show at 1e-4 and more


def _double(tokens: Mapping[str, int], stack: str = "transformer_blocks", attention: str = "attn") -> Keys:
    return Keys(stack, attention, {f"double.{stream}": count for stream, count in tokens.items()})


def _single(tokens: Mapping[str, int], stack: str = "single_transformer_blocks", attention: str = "attn") -> Keys:
    return Keys(stack, attention, {f"single.{stream}": count for stream, count in tokens.items()})


def _both(tokens: Mapping[str, int]) -> list[Keys]:
    return [_double(tokens), _single(tokens)]


# All texts have 12 tokens. Flux's kind: 8x16 latents, 2x2 of them a token. 24x16 of Kontext's reference: 96 tokens.
_TEXT, _FLUX = 12, 32
_Z_IMAGE = [_single({"video": 32, "text": 64}, "layers", "attention")]
_HUNYUAN_DIT = [Keys("blocks", "attn1", {"self.video": 64}), Keys("blocks", "attn2", {"cross.text": 2 * _TEXT})]
LAYOUTS = {
    "flux": _both({"text": _TEXT, "video": _FLUX}),
    "flux_kontext": _both({"text": _TEXT, "video": _FLUX, "image": 96}),
    # an example of two pictures of 8x8, a picture beside the generated one; enlarged, of 16x16 alone
    "visual_cloze_generation": _both({"text": _TEXT, "image": 4 * 8, "video": 4 * 8}),
    "visual_cloze": _both({"text": _TEXT, "video": 8 * 8}),
    # 16x32 pixels, 4 a latent, 2x2 latents a token; references of 64x64
    "flux2_klein": _both({"text": _TEXT, "video": 8, "image": 2 * 64}),
    "flux2_klein_kv": _both({"text": _TEXT, "kept": 64, "video": 8}),
    # the same sizes; one reference or two
    "flux3": [_single({"text": _TEXT, "video": 8})],
    "flux3_edit": [_single({"text": _TEXT, "video": 8, "image": 2 * 64})],
    "flux3_distilled_edit": [_single({"text": _TEXT, "video": 8, "image": 64})],
    # 16x32 pixels, 4 a latent, 2x2 latents a token; references of 32x64
    "qwen_image": [_double({"text": _TEXT, "video": 8})],
    "qwen_image_edit_plus": [_double({"text": _TEXT, "video": 8, "image": 2 * 32})],
    # two layers and their sum, and the reference, all of 32x64
    "qwen_image_layered": [_double({"text": _TEXT, "video": 3 * 32, "image": 32})],
    "sd3": [_double({"video": 32, "text": _TEXT})],
    "sd35": [
        _double({"video": 32, "text": _TEXT}),
        Keys("transformer_blocks", "attn2", {"self.video": 32}),
    ],
    # 8x16 latents, 2x2 of them a token; texts of 40 and 7 tokens, padded to 64 and 32, then to one length
    "z_image": _Z_IMAGE,
    "z_image_controlnet": _Z_IMAGE,
    "z_image_controlnet_inpaint": _Z_IMAGE,
    "chroma": _both({"text": _TEXT, "video": _FLUX}),
    # 4x8 latents, 2x2 of them a token; the negative text is 7 tokens long
    "lumina2": [_single({"text": 7, "video": 8}, "layers")],
    # 8x16 latents, padded to the largest picture, 16x16; T5, the last Llama layer and that of the block
    "hidream": [
        _double({"video": 64, "text": 3 * _TEXT}, "double_stream_blocks", "block.attn1"),
        _single({"video": 64, "text": 3 * _TEXT}, "single_stream_blocks", "block.attn1"),
    ],
    "sana": [Keys("transformer_blocks", "attn2", {"cross.text": _TEXT})],
    "sana_sprint": [Keys("transformer_blocks", "attn2", {"cross.text": _TEXT})],
    "cogview4": [_single({"text": _TEXT, "video": 8}, "transformer_blocks", "attn1")],
    # 8 register tokens before the text
    "aura_flow": [
        _double({"text": 8 + _TEXT, "video": 32}, "joint_transformer_blocks"),
        _single({"text": 8 + _TEXT, "video": 32}),
    ],
    "ovis_image": _both({"text": _TEXT, "video": _FLUX}),
    "bria": _both({"text": _TEXT, "video": _FLUX}),
    # 16x16 latents, 2x2 of them a token; two text encoders
    "hunyuan_dit": _HUNYUAN_DIT,
    "hunyuan_dit_controlnet": _HUNYUAN_DIT,
    # 4x8 latents, 2x2 of them a token, after one token of the time; the texts are padded to one length
    "omnigen": [_single({"text": 94, "video": 1 + 8}, "layers", "self_attn")],
    "glm_image": [_single({"text": _TEXT, "video": 8}, "transformer_blocks", "attn1")],
    "krea2": [_single({"text": _TEXT, "video": 8}, "transformer_blocks")],
    # texts padded to 40 tokens; 16x32 pixels, 4 a latent, 2x2 latents a token; or 32x64 pixels, 8 a latent
    "ideogram4": [_single({"text": 40, "video": 8}, "layers", "attention")],
    "ideogram4_modular": [_single({"text": 40, "video": 8}, "layers", "attention")],
    "longcat_image": _both({"text": _TEXT, "video": _FLUX}),
    "longcat_image_edit": _both({"text": _TEXT, "video": _FLUX, "image": _FLUX}),
    # 5 words or 7; 32x64 pixels, 8 a latent; 64x64 of the reference
    "bria_fibo": _both({"text": 5, "video": 8 * 4 // 4}),
    "bria_fibo_edit": _both({"text": 7, "video": 8, "image": 64}),
    # 8x16 pixels, 2 a latent; texts of two encoders
    "hunyuan_image": [
        _double({"video": 32, "text": _TEXT + 5}),
        _single({"video": 32, "text": _TEXT + 5}),
    ],
    "prx": [_double({"text": _TEXT, "video": 32}, "blocks", "attention")],
    # 32x64 pixels, 8 a latent, 2x2 latents a token; references of that size, or two of 32x32
    "joyimage_edit": [_double({"video": 8, "image": 8, "text": _TEXT}, "double_blocks")],
    "joyimage_edit_plus": [_double({"video": 8, "image": 2 * 4, "text": _TEXT}, "double_blocks")],
    "ernie_image": [_single({"video": 32, "text": _TEXT}, "layers", "self_attention")],
    "nucleus_image": [_double({"video": 8, "text": _TEXT})],
    # before the picture of 4x8 tokens, run by run: a word, a reference of 4x4 tokens in 4 slots, 7 words
    "qwen_image21": [
        _single({"image": 1}, "transformer_blocks"),
        _single({"image": 1 + 16}, "transformer_blocks"),
        _single({"image": 1 + 16, "text": 7}, "transformer_blocks"),
        _single({"image": 1 + 16, "text": 7, "video": 32}, "transformer_blocks"),
    ],
    # a gist of 12 words; 16x32 pixels, 4 a latent, 2x2 latents a token, and a reference of that size
    "bria_fibo2_edit": [
        _single({"text": 12, "video": 8, "image": 8}, "layers", "attention"),
        Keys("layers", "cross_attention", {"cross.text": _TEXT}),
    ],
    "cogview3": [_single({"text": _TEXT, "video": 32}, "transformer_blocks", "attn1")],
    "pixart_sigma": [
        Keys("transformer_blocks", "attn1", {"self.video": 32}),
        Keys("transformer_blocks", "attn2", {"cross.text": _TEXT}),
    ],
    "lumina_next": [Keys("layers", "attn1", {"self.video": 8}), Keys("layers", "attn2", {"cross.text": _TEXT})],
}

TARGETS = [
    (name, target)
    for name, layout in LAYOUTS.items()
    for target in {t: 0 for keys in layout for t in keys.tokens}
    if not target.endswith(".kept")
]


# Their logits are so large that torch's own fp32 softmax is up to 2e-6 from one written out.
IN_DOUBLE_PRECISION = {"hidream", "omnigen"}


def _double_precision(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


class Built:
    """A pipeline, kept for all tests of its name, and the arguments of its last forward."""

    def __init__(self, name: str) -> None:
        self.pipe, call = BUILDERS[name]()
        self.transformer: nn.Module = self.pipe.transformer
        self.arguments = forwards_of(self.pipe, call)[-1]
        if name in IN_DOUBLE_PRECISION:
            self.transformer.double()
            self.arguments = Arguments((), {key: _double_precision(v) for key, v in self.arguments.kwargs.items()})


def forwards_of(pipe: Any, call: Mapping[str, Any], transformer: str = "transformer") -> list[Arguments]:
    """What a transformer got in a real run, forward by forward."""
    seen: list[Arguments] = []
    hook = getattr(pipe, transformer).register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(Arguments(*copy.deepcopy((args, kwargs)))), with_kwargs=True
    )
    generate(pipe, dict(call))
    hook.remove()
    return seen


@pytest.fixture(scope="module", params=by_name(LAYOUTS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def built(name) -> Built:
    return Built(name)


def explicit(built: Built, layout: list[Keys], gains: Mapping[str, float], following: Forward) -> Forward:
    return ground_truth(built.transformer, built.arguments, layout, gains, blocks=[0, 2], following=following)


def recipe(powers: Mapping[str, float], layout: list[Keys]) -> Recipe:
    stacks = {keys.stack for keys in layout if set(keys.tokens) & set(powers)}
    return Recipe(Scalar(GAMMA, powers), alignvid.BlockSet.of(dict.fromkeys(stacks, "0,2")), StepWindow.all())


@pytest.mark.exercises("explicit softmax")
def test_each_target_alone_is_the_explicit_softmax(name, built):
    untouched = forward(built.transformer, built.arguments)
    for target in (target for builder, target in TARGETS if builder == name):
        with alignvid.attach(built.pipe, recipe({target: 2.0}, LAYOUTS[name])):
            actual = forward(built.transformer, built.arguments)
        expected = explicit(built, LAYOUTS[name], {target: GAMMA**2}, following=actual)
        assert largest_difference(actual, expected) <= TOLERANCE, target
        assert largest_difference(actual, untouched) > 100 * TOLERANCE, target


def test_all_targets_together_are_the_explicit_softmax(name, built):
    targets = [target for builder, target in TARGETS if builder == name]
    powers = dict(zip(targets, (1.0, -1.0, 2.0, 0.5, 3.0, -2.0), strict=False))
    gains = {target: GAMMA**power for target, power in powers.items()}
    with alignvid.attach(built.pipe, recipe(powers, LAYOUTS[name])):
        actual = forward(built.transformer, built.arguments)
    expected = explicit(built, LAYOUTS[name], gains, following=actual)
    assert largest_difference(actual, expected) <= TOLERANCE


def test_reference_keys_that_are_kept_carry_no_gain():
    """The first forward of Flux 2 Klein KV computes them; gains on text and video must not reach them."""
    pipe, call = BUILDERS["flux2_klein_kv"]()
    first = forwards_of(pipe, call)[0]
    assert first.kwargs["kv_cache_mode"] == "extract"
    powers = {"double.text": 2.0, "double.video": -1.0, "single.text": 1.0, "single.video": 0.5}
    gains = {target: GAMMA**power for target, power in powers.items()}
    layout = LAYOUTS["flux2_klein_kv"]
    with alignvid.attach(pipe, recipe(powers, layout)):
        actual = forward(pipe.transformer, first)
    expected = ground_truth(pipe.transformer, first, layout, gains, blocks=[0, 2], following=actual)
    assert largest_difference(actual, expected) <= TOLERANCE


def test_a_transformer_that_is_given_no_text_has_all_of_its_keys_in_video():
    pipe, call = BUILDERS["ideogram4"]()
    name, layout = "unconditional_transformer", [_single({"video": 8}, "layers", "attention")]
    transformer, arguments = getattr(pipe, name), forwards_of(pipe, call, name)[-1]
    powers = {"single.text": 2.0, "single.video": 1.0}
    with alignvid.attach(pipe, recipe(powers, LAYOUTS["ideogram4"])) as attachment:
        actual = forward(transformer, arguments)
    expected = ground_truth(transformer, arguments, layout, {"single.video": GAMMA}, [0, 2], following=actual)
    assert largest_difference(actual, expected) <= TOLERANCE
    assert largest_difference(actual, forward(transformer, arguments)) > 100 * TOLERANCE
    assert attachment.gains == {"single.text": GAMMA**2, "single.video": GAMMA}


def test_a_gain_on_text_for_the_unconditional_pass_alone_is_refused_where_its_transformer_has_none():
    pipe, _ = BUILDERS["ideogram4"]()
    with pytest.raises(
        UnknownTarget, match=r'without single\.text: .* Choose branch "cond" or "both", or other streams'
    ):
        alignvid.attach(pipe, streams=["text"], branch="uncond")


def test_a_gain_on_text_leaves_a_transformer_without_text_alone():
    pipe, _ = BUILDERS["ideogram4"]()
    assert set(alignvid.attach(pipe).placements) == {"transformer"}
    assert type(pipe.unconditional_transformer) is type(pipe.transformer).__mro__[1]
    alignvid.detach(pipe)
    with pytest.raises(UnknownTarget, match="choose from text, video"):
        alignvid.attach(pipe, streams=["image"])


def _parts(**sources: Any) -> Callable[[dict[str, Any]], list[Tensor]]:
    """Views of the inputs of those names, each cut as said."""
    return lambda kwargs: [kwargs[source][part] for source, part in sources.items()]


ALL = (slice(None),)
EARLY, LATE = (slice(None), slice(None, 32)), (slice(None), slice(32, None))
QWEN_EARLY, QWEN_LATE = (slice(None), slice(None, 8)), (slice(None), slice(8, None))

INPUTS: dict[str, dict[str, Callable[[dict[str, Any]], list[Tensor]]]] = {
    # pipeline: the parts of the inputs that the tokens of each target come from
    "flux_kontext": {
        f"{site}.{stream}": part
        for site in ("double", "single")
        for stream, part in {
            "text": _parts(encoder_hidden_states=ALL),
            "video": _parts(hidden_states=EARLY),
            "image": _parts(hidden_states=LATE),
        }.items()
    },
    "visual_cloze_generation": {
        "double.text": _parts(encoder_hidden_states=ALL),
        "double.image": _parts(hidden_states=EARLY),
        "single.video": _parts(hidden_states=LATE),
    },
    "flux2_klein": {
        "double.text": _parts(encoder_hidden_states=ALL),
        "double.video": _parts(hidden_states=QWEN_EARLY),
        "single.image": _parts(hidden_states=QWEN_LATE),
    },
    "flux3_edit": {
        "single.text": _parts(encoder_hidden_states=ALL),
        "single.video": _parts(hidden_states=ALL),
        "single.image": _parts(image_cond_hidden_states=ALL),
    },
    "qwen_image_edit_plus": {
        "double.text": _parts(encoder_hidden_states=ALL),
        "double.video": _parts(hidden_states=QWEN_EARLY),
        "double.image": _parts(hidden_states=QWEN_LATE),
    },
    "qwen_image_layered": {
        "double.video": _parts(hidden_states=(slice(None), slice(None, 96))),
        "double.image": _parts(hidden_states=(slice(None), slice(96, None))),
    },
    "sd35": {
        "double.video": _parts(hidden_states=ALL),
        "double.text": _parts(encoder_hidden_states=ALL),
        "self.video": _parts(hidden_states=ALL),
    },
    "ideogram4": {"single.video": _parts(hidden_states=(slice(None), slice(40, None)))},
    "longcat_image_edit": {
        "double.video": _parts(hidden_states=EARLY),
        "double.image": _parts(hidden_states=LATE),
        "single.text": _parts(encoder_hidden_states=ALL),
    },
    "bria_fibo_edit": {
        "double.video": _parts(hidden_states=QWEN_EARLY),
        "double.image": _parts(hidden_states=QWEN_LATE),
    },
    "joyimage_edit": {  # the pipeline has the generated picture last
        "double.video": _parts(hidden_states=(slice(None), slice(1, None))),
        "double.image": _parts(hidden_states=(slice(None), slice(None, 1))),
        "double.text": _parts(encoder_hidden_states=ALL),
    },
    "joyimage_edit_plus": {
        "double.video": _parts(hidden_states=QWEN_EARLY),
        "double.image": _parts(hidden_states=QWEN_LATE),
    },
    "prx": {"double.text": _parts(encoder_hidden_states=ALL), "double.video": _parts(hidden_states=ALL)},
    "ernie_image": {"single.text": _parts(text_bth=ALL), "single.video": _parts(hidden_states=ALL)},
    "nucleus_image": {"double.text": _parts(encoder_hidden_states=ALL), "double.video": _parts(hidden_states=ALL)},
    "hunyuan_image": {"double.video": _parts(hidden_states=ALL)},
    "qwen_image21": {"single.video": _parts(hidden_states=(slice(None), slice(16, None)))},
    "cogview3": {"single.text": _parts(encoder_hidden_states=ALL), "single.video": _parts(hidden_states=ALL)},
    "pixart_sigma": {"cross.text": _parts(encoder_hidden_states=ALL)},
    "chroma": {"single.text": _parts(encoder_hidden_states=ALL), "single.video": _parts(hidden_states=ALL)},
    "lumina2": {"single.text": _parts(encoder_hidden_states=ALL), "single.video": _parts(hidden_states=ALL)},
    "cogview4": {"single.text": _parts(encoder_hidden_states=ALL), "single.video": _parts(hidden_states=ALL)},
    "sana": {"cross.text": _parts(encoder_hidden_states=ALL)},
    "hidream": {
        "double.text": _parts(encoder_hidden_states_t5=ALL, encoder_hidden_states_llama3=ALL),
    },
}


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, inputs in INPUTS.items() for target in inputs])
def test_the_layout_above_is_where_an_input_turns_up(name, target):
    built = Built(name)
    keys = next(keys for keys in LAYOUTS[name] if target in keys.tokens)
    if keys.stack == "single_transformer_blocks":
        built.transformer.transformer_blocks = nn.ModuleList()
    changed = copy.deepcopy(built.arguments)
    for part in INPUTS[name][target](changed.kwargs):
        part += torch.randn_like(part)
    before = first_keys(built.transformer, built.arguments, keys)
    after = first_keys(built.transformer, changed, keys)
    differing = (before != after).any(-1).any(1)[0].nonzero().flatten().tolist()
    start = sum(list(keys.tokens.values())[: list(keys.tokens).index(target)])
    assert differing == list(range(start, start + keys.tokens[target]))


def test_z_image_has_its_picture_before_its_text_in_both_halves_of_the_batch():
    built = Built("z_image")
    keys = LAYOUTS["z_image"][0]
    latents, timestep, texts = built.arguments.args
    before = first_keys(built.transformer, built.arguments, keys)
    moved = Arguments(([part + 1.0 for part in latents], timestep, texts), built.arguments.kwargs)
    after = first_keys(built.transformer, moved, keys)
    differing = (before != after).any(-1).any(1)
    assert differing.tolist() == 2 * [[True] * 32 + [False] * 64]


def test_a_cached_reference_is_refused_with_its_reason_and_left_out_of_the_generic_preset():
    pipe, _ = BUILDERS["flux2_klein_kv"]()
    with pytest.raises(UnknownTarget, match=r"'image' is not a stream.*keys of the reference image once"):
        alignvid.attach(pipe, streams=["image"])
    assert set(alignvid.attach(pipe).gains) == {"double.text", "single.text"}


def test_a_pipeline_that_packs_each_sample_otherwise_is_refused():
    pipe, _ = BUILDERS["z_image"]()

    class ZImageOmniPipeline(type(pipe)):
        pass

    pipe.__class__ = ZImageOmniPipeline
    pipe.register_to_config(_class_name="ZImageOmniPipeline")
    with pytest.raises(UnsupportedModel, match=r"ZImageOmniPipeline is not supported\. .*use ZImagePipeline"):
        alignvid.attach(pipe)


def test_texts_of_different_length_in_one_batch_are_refused_where_they_end_in_different_places():
    built = Built("lumina2")
    kwargs = {key: torch.cat([v, v]) if isinstance(v, Tensor) else v for key, v in built.arguments.kwargs.items()}
    kwargs["encoder_attention_mask"][1, 4:] = 0
    with (
        alignvid.attach(built.pipe, steps="all"),
        pytest.raises(AttachmentError, match=r"Prompts of different length.*one by one"),
    ):
        built.transformer(**kwargs)
