import pytest

from alignvid import BlockSet, StepWindow
from alignvid.bench.runs.variants import Variant, parse_variant, parse_variants
from alignvid.errors import AlignvidError
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.modulation import ConflictAware, Energy, KeyBlur, LowPass

PRESET = """
title = "Mine"
family = "wan"
default = "mine"

[readings.mine]
provenance = "A test."

[readings.mine.recipe]
modulation = { kind = "scalar", gamma = 2.0, powers = { "cross.text" = 1.0 } }
blocks = "first-half"
steps = { unit = "fraction", start = 0.0, stop = 0.5 }
branch = "both"
"""


@pytest.fixture(scope="module")
def model():
    """Six blocks with cross-attention to text and an image, and a preset of its own."""
    return sketch(find_model("miniature"))


def test_the_baseline_has_no_recipe_and_changes_nothing_in_the_call(model):
    assert parse_variant("baseline", model) == Variant("baseline")


def test_alignvid_is_the_preset_that_is_found_for_the_model(model):
    variant = parse_variant("alignvid", model)
    assert variant.name == "alignvid"
    assert variant.recipe == parse_variant("miniature", model).recipe
    assert variant.recipe.gamma == 1.82


@pytest.mark.parametrize("name", ["generic", "miniature:calibrated"])
def test_a_preset_is_named_as_it_is_called(model, name):
    variant = parse_variant(name, model)
    assert (variant.name, variant.settings) == (name, {})
    assert variant.recipe is not None


def test_a_preset_file_is_read(model, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(PRESET)
    variant = parse_variant(str(file), model)
    assert (variant.recipe.gamma, variant.recipe.steps) == (2.0, StepWindow.fraction(0.0, 0.5))


def test_settings_after_a_name_and_a_colon_change_the_preset_of_the_model(model):
    variant = parse_variant("late: gamma=1.7 steps-window=0.7-1.0 blocks=0+2-3 branch=cond", model)
    assert variant.name == "late"
    assert variant.recipe.gamma == 1.7
    assert variant.recipe.steps == StepWindow.fraction(0.7, 1.0)
    assert variant.recipe.blocks == BlockSet.of([0, 2, 3])
    assert variant.recipe.branch == "cond"
    assert set(variant.recipe.modulation.powers) == {"cross.text"}  # the preset's


def test_settings_without_a_name_are_the_name(model):
    assert parse_variant("gamma=1.7 steps-window=0.7-1.0", model).name == "gamma=1.7 steps-window=0.7-1.0"


def test_streams_of_one_variant_are_listed_with_a_plus(model):
    assert set(parse_variant("streams=text+image", model).recipe.modulation.powers) == {"cross.text", "cross.image"}


@pytest.mark.parametrize("steps", ["noise>0.9", "noise:0.6-0.9", "all", "none"])
def test_a_step_window_may_hold_a_colon_or_a_word(model, steps):
    variant = parse_variant(f"mine: steps-window={steps}", model)
    assert (variant.name, variant.recipe.steps) == ("mine", StepWindow.of(steps))


def test_a_stack_of_blocks_is_named_with_a_second_equals_sign(model):
    assert parse_variant("blocks=blocks=0+2", model).recipe.blocks == BlockSet.of({"blocks": [0, 2]})


def test_a_named_preset_is_changed_in_place_of_the_models_own(model):
    recipe = parse_variant("preset=generic gamma=1.2", model).recipe
    assert recipe == parse_variant("generic", model).recipe.override(gamma=1.2)


@pytest.mark.parametrize(
    ("settings", "modulation"),
    [
        ("kind=energy low=0.9 gamma=1.2 centre=0.5 width=2", Energy(1.2, 0.9, 0.5, 2.0)),
        ("kind=conflict-aware", ConflictAware()),
        ("kind=key-blur sigma=2", KeyBlur(sigma=2.0)),
        ("kind=low-pass sigma=2", LowPass(sigma=2.0)),
    ],
)
def test_a_kind_begins_from_its_own_defaults(model, settings, modulation):
    assert parse_variant(settings, model).recipe.modulation == modulation


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("cfg: guidance=3", {"guidance": 3.0}),
        ("blur=4", {"blur": 4.0}),
        ("guidance=3 blur=4", {"guidance": 3, "blur": 4}),
    ],
)
def test_the_call_is_changed_without_attaching_anything(model, text, settings):
    variant = parse_variant(text, model)
    assert (variant.recipe, variant.settings) == (None, settings)


def test_a_recipe_and_the_call_may_be_changed_together(model):
    variant = parse_variant("both: gamma=1.7 guidance=3", model)
    assert (variant.recipe.gamma, variant.guidance) == (1.7, 3.0)


def test_a_list_is_parted_by_commas_and_keeps_its_order(model):
    found = parse_variants(["baseline, alignvid", "cfg: guidance=3,,"], model)
    assert [variant.name for variant in found] == ["baseline", "alignvid", "cfg"]


TEXT, IMAGE = {"cross.text": 1.0}, {"cross.image": 1.0}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "both: gamma=1.7 streams=text & kind=energy gamma=2 streams=image blocks=0 steps-window=all branch=cond",
            "both",
        ),
        ("gamma=1.7 streams=text&kind=energy gamma=2 streams=image blocks=0 steps-window=all branch=cond", None),
    ],
)
def test_several_modulations_have_a_mark_between_them(model, text, name):
    variant = parse_variant(text, model)
    first, second = variant.recipe.parts
    assert variant.name == (name or text)
    assert (first.modulation.gamma, set(first.modulation.powers)) == (1.7, set(TEXT))
    assert (second.modulation, second.branch) == (Energy(2.0, powers=IMAGE), "cond")
    assert (second.blocks, second.steps) == (BlockSet.of([0]), StepWindow.all())
    assert Variant.from_dict(variant.to_dict()) == variant


@pytest.mark.parametrize("text", ["alignvid & kind=energy streams=image", "kind=energy streams=image & generic"])
def test_a_preset_by_its_name_is_one_of_several(model, text):
    parts = parse_variant(text, model).recipe.parts
    alone = parse_variant("alignvid" if text.startswith("alignvid") else "generic", model).recipe
    assert len(parts) == 2 and alone in parts


def test_a_preset_file_of_several_modulations_is_one_of_several(model, tmp_path):
    file = tmp_path / "mine.toml"
    then = "[[readings.mine.recipe.then]]\nmodulation = { kind = 'energy', powers = { '*.image' = 1.0 } }\n"
    file.write_text(PRESET + then + "blocks = 'all'\nsteps = { unit = 'fraction', start = 0.5, stop = 1.0 }\n")
    assert len(parse_variant(str(file), model).recipe.parts) == 2
    assert len(parse_variant(f"{file} & gamma=1.2", model).recipe.parts) == 3


@pytest.mark.parametrize("text", ["x: guidance=3 & gamma=2", "x: gamma=2 & guidance=3", "x: gamma=2 guidance=3"])
def test_the_call_is_changed_once_in_whichever_part(model, text):
    variant = parse_variant(text, model)
    assert (variant.name, variant.guidance, len(variant.recipe.parts)) == ("x", 3.0, 1)


@pytest.mark.parametrize(
    "text", ["baseline", "alignvid", "cfg: guidance=3 blur=4", "kind=energy low=0.9", "gamma=2 & gamma=1.5"]
)
def test_a_plan_gives_back_the_variant_that_was_written_to_it(model, text):
    variant = parse_variant(text, model)
    assert Variant.from_dict(variant.to_dict()) == variant


ERRORS = {
    # list of variants: value given, what is allowed, what to do
    ",": ("No variant is named", "--variants baseline,alignvid"),
    "baseline,baseline": ("Two variants are named 'baseline'", 'give each its own name: "name: gamma=1.5"'),
    "a: gamma=2,a: gamma=3": ("Two variants are named 'a'", 'give each its own name: "name: gamma=1.5"'),
    "blocks=0,2-7": ("'2-7' is no variant", "commas part variants", "blocks=0+2-7"),
    "framepak": ("Variant 'framepak'", "framepack", "miniature"),
    "framepack": ("is for the family framepack", "leave the preset out"),
    "absent.toml": ("Variant 'absent.toml'", "absent.toml"),
    "mine: gamma=2 early": ("'early'", "'mine: gamma=2 early'", "write field=value, such as gamma=1.5"),
    "mine: gamma=": ("'gamma='", "write field=value, such as gamma=1.5"),
    "gama=2": ("no setting 'gama'", "choose from preset, gamma, blocks, steps"),
    "gamma=2 gamma=3": ("'gamma=2 gamma=3' sets gamma twice", "leave one out"),
    "gamma=big": ("gamma=big is no number", "write for example gamma=1.5"),
    "guidance=big": ("guidance=big is no number", "write for example guidance=1.5"),
    "gamma=0": ("Variant 'gamma=0'", "gamma must be a finite positive number, but 0.0 was given", "1.35"),
    "blur=-1": ("a finite number of 0 or more", "-1.0 was given"),
    "steps-window=sometimes": ("'sometimes' is not a step window", "write '0.0-0.3'", "'all' or 'none'"),
    "steps-window=0.5-0.2": ("(0.5, 0.2) contains no step", "StepWindow.none()"),
    "blocks=some": ("'some' is not a set of blocks", "'0,2-7'"),
    "blocks=9": ("Variant 'blocks=9'", "9", "0"),
    "streams=sound": ("'sound' is not a stream", "choose from", "text"),
    "streams=+": ("names no stream", "'text,image'"),
    "branch=left": ("'left'", "both", "cond", "uncond"),
    "kind=loud": ("'loud' is unknown", "choose one of", "energy"),
    "low=0.9": ("low belongs to a kind of modulation", "kind=energy"),
    "preset=generic kind=energy": ("preset and kind exclude each other", "give one of them"),
    "kind=conflict-aware low=0.9": ("low", "conflict-aware"),
    "gamma=2 &": ("'gamma=2 &' has nothing on one side of '&'", "write for example"),
    "& gamma=2": ("has nothing on one side of '&'",),
    "gamma=2 & gama=3": ("Variant 'gamma=2 & gama=3'", "no setting 'gama'", "choose from preset"),
    "gamma=2 & baseline": ("'baseline'", "miniature"),
    "guidance=2 & gamma=2 guidance=3": ("guidance is set twice", "leave one out"),
    "kind=conflict-aware & kind=energy": ("act on the same attention", "Give them different blocks or sites"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("text", ERRORS)
def test_what_is_wrong_is_told_in_one_sentence_with_what_is_allowed(model, text):
    with pytest.raises(AlignvidError) as raised:
        parse_variants([text], model)
    message = str(raised.value)
    assert [words for words in ERRORS[text] if words not in message] == [], message
    assert "\n" not in message
