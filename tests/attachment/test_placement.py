"""A recipe laid over a model: which targets exist, which blocks are met, what is refused before anything is touched."""

from __future__ import annotations

import pytest

import pipelines
from alignvid.attachment.placement import place, powers_for_streams
from alignvid.errors import UnknownTarget
from alignvid.host import hosts
from alignvid.host.sites import targets_of
from alignvid.recipe import Recipe

WAN_TARGETS = ("cross.image", "cross.text", "self.video")


@pytest.fixture(scope="module")
def wan():
    return pipelines.wan_i2v()[0]


@pytest.mark.parametrize(
    ("builder", "targets"),
    [
        (pipelines.wan_t2v, ("cross.text", "self.video")),
        (pipelines.wan_i2v, WAN_TARGETS),
        (pipelines.wan22_ti2v_5b, ("cross.text", "self.image", "self.video")),
        (pipelines.hunyuan_t2v, ("double.text", "double.video", "single.text", "single.video")),
        (
            pipelines.hunyuan_i2v_token_replace,
            ("double.image", "double.text", "double.video", "single.image", "single.text", "single.video"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_offers_the_targets_that_it_has(builder, targets):
    pipeline = builder()[0]
    assert targets_of(hosts(pipeline)[0], pipeline) == targets


def test_an_exact_name_wins_over_a_star(wan):
    recipe = Recipe().override(gamma=2.0, powers={"*.*": 3.0, "cross.*": 2.0, "cross.text": 1.0}, blocks=[0])
    gains = dict(pair for item in place(recipe, hosts(wan)[0], wan) for pair in item.gains)
    assert gains == {"text": 2.0, "image": 4.0, "video": 8.0}


def test_a_recipe_for_text_and_image_fits_a_model_without_image_keys():
    pipeline = pipelines.wan_t2v()[0]
    placements = place(Recipe(), hosts(pipeline)[0], pipeline)
    assert {stream for item in placements for stream, _ in item.gains} == {"text"}


@pytest.mark.parametrize("target", ["cross.txt", "double.text", "*.txt", "double.*"])
def test_a_target_that_does_not_exist_is_refused_with_those_that_do(wan, target):
    with pytest.raises(UnknownTarget, match=r"is not a target of WanTransformer3DModel; choose from cross\.image"):
        place(Recipe().override(powers={target: 1.0, "cross.text": 1.0}), hosts(wan)[0], wan)


def test_a_stack_that_does_not_exist_is_refused_with_those_that_do(wan):
    with pytest.raises(
        UnknownTarget, match=r"`vace_blocks` is not a stack of WanTransformer3DModel; choose from blocks"
    ):
        place(Recipe().override(blocks={"vace_blocks": [0]}), hosts(wan)[0], wan)


def test_unqualified_blocks_are_about_the_stacks_that_hold_a_target():
    pipeline = pipelines.framepack_v1()[0]
    transformer = hosts(pipeline)[0].transformer
    transformer.single_transformer_blocks.append(transformer.single_transformer_blocks[0])
    last = len(transformer.single_transformer_blocks) - 1
    assert last >= len(transformer.transformer_blocks)
    placements = place(Recipe().override(powers={"single.*": 1.0}, blocks=[last]), hosts(pipeline)[0], pipeline)
    assert [(item.location.stack, item.location.block) for item in placements] == [("single_transformer_blocks", last)]


def test_targets_that_no_chosen_block_holds_are_refused():
    pipeline = pipelines.hunyuan_t2v()[0]
    recipe = Recipe().override(powers={"single.text": 1.0}, blocks={"transformer_blocks": "all"})
    with pytest.raises(UnknownTarget, match=r"No chosen block of HunyuanVideoTransformer3DModel has single\.text"):
        place(recipe, hosts(pipeline)[0], pipeline)


def test_one_of_several_exact_targets_that_no_chosen_block_holds_is_refused_by_name():
    pipeline = pipelines.hunyuan_t2v()[0]
    powers = {"double.text": 1.0, "single.text": 1.0}
    recipe = Recipe().override(powers=powers, blocks={"transformer_blocks": "all"})
    with pytest.raises(UnknownTarget, match=r"No chosen block of HunyuanVideoTransformer3DModel has single\.text; the"):
        place(recipe, hosts(pipeline)[0], pipeline)
    placements = place(recipe.override(powers={"*.text": 1.0}), hosts(pipeline)[0], pipeline)
    assert {item.location.site for item in placements} == {"double"}  # of a star the rest may be idle


@pytest.mark.parametrize(
    ("streams", "powers"),
    [
        ("text", {"cross.text": 2.0}),
        (["text", "image"], {"cross.text": 2.0, "cross.image": 1.0}),
        (["self.video"], {"self.video": 1.0}),
        (["video"], {"self.video": 1.0}),
        ({"text": 3.0}, {"cross.text": 3.0}),
        ({"cross.*": 0.5}, {"cross.*": 0.5}),
    ],
    ids=str,
)
def test_named_streams_keep_the_powers_of_the_recipe(streams, powers):
    released = {"cross.text": 2.0, "cross.image": 1.0}
    assert powers_for_streams(streams, released, WAN_TARGETS, {}) == powers


@pytest.mark.parametrize("streams", [["txt"], {"text": 1.0, "imgae": 1.0}], ids=str)
def test_a_stream_that_does_not_exist_is_refused_with_those_that_do(streams):
    with pytest.raises(UnknownTarget, match="is not a stream of this model; choose from image, text, video"):
        powers_for_streams(streams, {"cross.text": 1.0}, WAN_TARGETS, {})


def test_no_streams_at_all_are_refused():
    with pytest.raises(UnknownTarget, match="list of streams is empty"):
        powers_for_streams([], {"cross.text": 1.0}, WAN_TARGETS, {})
