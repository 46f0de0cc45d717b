import pytest

from alignvid.bench.comfyui.workflow import Workflow
from alignvid.bench.data.draw import drawn
from alignvid.bench.data.omitshapes import omitshapes
from alignvid.bench.trials.arms import comfyui_arms, diffusers_arms
from alignvid.bench.trials.planning import plan_trial
from alignvid.bench.trials.spec import ARMS, TrialSpec
from alignvid.errors import InputError
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch


@pytest.fixture(scope="module")
def miniature():
    return sketch(find_model("miniature"))


def test_twelve_scenes_are_four_of_each_category_and_depend_on_no_other_scene():
    samples = omitshapes().samples
    chosen = drawn(samples, 12)
    kinds = [sample.main_category for sample in chosen]
    assert {kind: kinds.count(kind) for kind in kinds} == {"modification": 4, "addition": 4, "deletion": 4}
    others = [sample for sample in samples if sample not in chosen]
    assert drawn([*chosen, *others[:5]][::-1], 12)[::-1] != [] and set(drawn(samples, 3)) <= set(chosen)
    assert {one.id for one in drawn(samples[::-1], 12)} == {one.id for one in chosen}


def test_the_default_arms_are_what_the_model_has_and_the_reason_is_said_for_the_others(miniature):
    arms = diffusers_arms(ARMS, miniature, 1.0)
    assert [one.name for one in arms.variants] == [name for name in ARMS if name != "guidance"]
    assert dict(arms.left_out) == {"guidance": "this set-up runs without guidance"}
    guided = diffusers_arms(ARMS, miniature, 4.0)
    assert guided.variants[-1].guidance == 6.0 and not guided.left_out
    follows = {one.name: one.recipe.gamma for one in arms.variants if one.name.startswith("follow")}
    assert follows == {"follow-0.4": pytest.approx(2**0.4), "follow-0.8": pytest.approx(2**0.8)}


def test_an_arm_that_is_the_same_recipe_as_another_is_left_out(miniature):
    arms = diffusers_arms(("baseline", "generic", "again: preset=generic"), miniature, 1.0)
    assert dict(arms.left_out) == {"again: preset=generic": "on this model it is the same as generic"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("baseline", "nonesuch"), "Arm 'nonesuch' is unknown; choose from still, baseline, released"),
        (("baseline", "follow-much"), "Arm 'follow-much' is unknown"),
        (("released",), "lack 'baseline'"),
        (("baseline", "still"), "no arm to compare"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(miniature, names, message):
    with pytest.raises(InputError, match=message):
        diffusers_arms(names, miniature, 1.0)


def test_in_comfyui_an_arm_is_a_setting_of_the_node():
    workflow = Workflow("m", {"1": {"class_type": "KSampler", "inputs": {"cfg": "{{guidance}}"}}}, "d")
    names = (*ARMS, "late: gamma=1.5 blocks=0+2-7 steps-window=0.7-1.0")
    arms = {one.name: one for one in comfyui_arms(names, workflow, 5.0).variants}
    assert arms["released"].node == {"preset": "auto"} and arms["baseline"].node is None
    assert arms["follow-0.4"].node == {"strength": "follow", "follow": 0.4}
    assert arms["late"].node == {"strength": "gamma", "gamma": 1.5, "blocks": "0,2-7", "steps": "0.7-1.0"}
    assert arms["guidance"].guidance == 7.5


def test_data_without_scenes_and_half_a_comfyui_are_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(InputError, match=r"No sample|holds no|no row|empty"):
        plan_trial(TrialSpec(data=str(tmp_path)))
    with pytest.raises(InputError, match="needs both --comfyui ADDRESS and --workflow FILE"):
        TrialSpec(workflow="x.json")
    with pytest.raises(InputError, match="ComfyUI's own"):
        TrialSpec(comfyui="http://127.0.0.1:8188", workflow="x.json", loras=("a.safetensors",))
