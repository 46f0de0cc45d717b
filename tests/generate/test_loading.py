import json
from dataclasses import replace

import pytest
import torch

from alignvid.errors import InputError, ModulationError, UnknownPreset, UnknownTarget, UnsupportedModel
from alignvid.generate import GenerationSpec
from alignvid.generate.identity import model_identity
from alignvid.generate.loading import ModelSource, find_model, load_pipeline
from alignvid.generate.plan import plan
from alignvid.generate.sketch import describe, find_preset, resolve, sketch

NO_OVERRIDES = {"gamma": None, "blocks": None, "steps": None, "streams": None, "branch": None}


def copy_of(folder, target):
    for path in folder.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def test_a_saved_pipeline_is_found_and_loaded(wan_i2v_folder):
    source = find_model(str(wan_i2v_folder))
    pipeline = load_pipeline(source, "bfloat16")
    assert source.pipeline_class == type(pipeline).__name__ == "WanImageToVideoPipeline"
    assert pipeline.transformer.dtype == torch.bfloat16
    assert pipeline.vae.dtype == pipeline.image_encoder.dtype == torch.float32


def test_a_name_that_is_nothing_is_refused_with_examples():
    with pytest.raises(InputError, match=r"Model 'wan' is not there; give 'miniature'.* a folder .* or an id"):
        find_model("wan")


def test_a_hub_id_that_cannot_be_fetched_is_refused():
    with pytest.raises(InputError, match=r"'nobody/nothing' is no folder here, and .* cannot be fetched"):
        find_model("nobody/nothing")


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no diffusers pipeline: it has no model_index\.json"):
        find_model(str(tmp_path))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is a file; give the folder"):
        find_model(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"_class_name": ["pipeline", "Evil"]}'])
def test_a_broken_index_is_refused(tmp_path, content):
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(InputError, match=r"cannot be read as JSON|no JSON object|does not name its pipeline's class"):
        find_model(str(tmp_path))


def test_an_unsupported_family_is_refused_with_the_nearest_supported_ones(unsupported_folder):
    message = r"StableDiffusionPipeline of .* is not supported; nearest among the \d+ .* supported: StableDiffusion3"
    with pytest.raises(UnsupportedModel, match=message):
        find_model(str(unsupported_folder))


def test_a_family_that_cannot_be_supported_is_refused_with_the_reason(wan_i2v_folder, tmp_path):
    folder = copy_of(wan_i2v_folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "StableAudioDiTModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedModel, match=r"is not supported\. It makes sound alone"):
        find_model(str(folder))


def test_a_part_that_is_missing_is_refused(wan_i2v_folder, tmp_path):
    folder = copy_of(wan_i2v_folder, tmp_path / "model")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot be loaded: .* must be complete"):
        load_pipeline(find_model(str(folder)), "float32")


def test_damaged_weights_are_refused(wan_i2v_folder, tmp_path):
    folder = copy_of(wan_i2v_folder, tmp_path / "model")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_pipeline(find_model(str(folder)), "float32")


@pytest.mark.parametrize(
    ("part", "name"),
    [("text_encoder", "pytorch_model.bin"), ("transformer", "diffusion_pytorch_model.bin")],
)
def test_pickled_weights_are_never_read(wan_i2v_folder, tmp_path, part, name):
    folder = copy_of(wan_i2v_folder, tmp_path / "model")
    weights = next((folder / part).glob("*.safetensors"))
    weights.unlink()
    torch.save({}, folder / part / name)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_pipeline(find_model(str(folder)), "float32")


def test_a_framepack_transformer_alone_is_a_framepack_model(tmp_path):
    config = {"_class_name": "HunyuanVideoFramepackTransformer3DModel"}
    (tmp_path / "FramePack_F1").mkdir()
    (tmp_path / "FramePack_F1" / "config.json").write_text(json.dumps(config))
    source = find_model(str(tmp_path / "FramePack_F1"))
    assert source.pipeline_class == "HunyuanVideoFramepackPipeline"
    assert source.is_bare_framepack
    assert source.extra_arguments == {"sampling_type": "vanilla"}


def test_a_sketch_tells_what_the_model_is_made_of_without_its_weights(wan_i2v_folder, tmp_path):
    folder = copy_of(wan_i2v_folder, tmp_path / "model")
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    assert describe(sketch(find_model(str(folder))))["transformers"] == [
        {
            "name": "transformer",
            "class": "WanTransformer3DModel",
            "stacks": [
                {"name": "blocks", "blocks": 3, "sites": {"self": ["video"], "cross": ["text", "image"]}},
            ],
        }
    ]


def test_a_sketch_resolves_a_recipe_as_attach_would(wan_i2v_folder):
    from alignvid import attach

    model = sketch(find_model(str(wan_i2v_folder)))
    with attach(load_pipeline(model.source, "float32"), gamma=1.5) as attachment:
        resolved = resolve(model, None, {**NO_OVERRIDES, "gamma": 1.5}).summary.to_dict()
        assert resolved == {name: attachment.to_dict()[name] for name in resolved}


def test_a_sketch_knows_the_transformer_that_is_given_no_text(tmp_path):
    from alignvid import attach
    from picture_pipelines.modular import ideogram4

    pipeline = ideogram4()[0]
    pipeline.save_pretrained(tmp_path)
    model = sketch(find_model(str(tmp_path)))
    assert [host["stacks"][0]["sites"] for host in describe(model)["transformers"]] == [
        {"single": ["text", "video"]},
        {"single": ["video"]},
    ]
    for streams in (None, ["video"], ["text", "video"]):
        with attach(pipeline, streams=streams) as attachment:
            resolved = resolve(model, None, {**NO_OVERRIDES, "streams": streams}).summary.to_dict()
            assert resolved == {name: attachment.to_dict()[name] for name in resolved}


def test_the_preset_of_the_real_model_is_found_from_its_config():
    config = {"_class_name": "WanTransformer3DModel", "num_layers": 40, "image_dim": 1280, "added_kv_proj_dim": 5120}
    source = StoredSource({"transformer/config.json": config})
    assert find_preset(sketch(source)).name == "wan2.1-i2v-14b:released"


class StoredSource(ModelSource):
    """A model of which only configs are there."""

    def __init__(self, files):
        super().__init__(
            "big", "big", True, {"_class_name": "X", "transformer": ["diffusers", "WanTransformer3DModel"]}
        )
        object.__setattr__(self, "files", files)

    def read_json(self, path):
        return self.files[path]


def test_a_preset_of_another_family_is_refused(wan_i2v_folder):
    with pytest.raises(UnknownPreset, match=r"framepack:released is for the family framepack, but .* is of wan"):
        resolve(sketch(find_model(str(wan_i2v_folder))), "framepack", NO_OVERRIDES)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"blocks": [7]}, "Block 7 of `blocks` does not exist: it has blocks 0 to 2"),
        (
            {"blocks": {"single_transformer_blocks": "all"}},
            "is not a stack of WanTransformer3DModel; choose from blocks",
        ),
        ({"streams": ["history"]}, "'history' is not a stream of this model; choose from image, text, video"),
    ],
)
def test_what_the_model_does_not_have_is_refused_before_its_weights_are_read(wan_i2v_folder, override, message):
    from alignvid.blocks import BlockSet

    if "blocks" in override:
        override = {"blocks": BlockSet.of(override["blocks"])}
    with pytest.raises(UnknownTarget, match=message):
        resolve(sketch(find_model(str(wan_i2v_folder))), None, {**NO_OVERRIDES, **override})


def test_a_plan_builds_no_clock_and_no_gate(wan_i2v_folder, monkeypatch):
    from alignvid.attachment.gate import Gate
    from alignvid.host.clock import StepClock
    from alignvid.host.passes import PassReader

    def built(*args, **kwargs):
        raise AssertionError("a plan puts nothing in force")

    for kind in (Gate, StepClock, PassReader):
        monkeypatch.setattr(kind, "__init__", built)
    assert resolve(sketch(find_model(str(wan_i2v_folder))), None, NO_OVERRIDES).summary.site_count > 0


def test_a_kind_that_the_model_cannot_have_is_refused_before_its_weights_are_read(wan_i2v_folder):
    from alignvid import LogBias, Recipe

    with pytest.raises(UnknownTarget, match=r"cross.text is alone in its softmax"):
        resolve(sketch(find_model(str(wan_i2v_folder))), Recipe(LogBias(powers={"cross.text": 1.0})), NO_OVERRIDES)


def test_gains_without_end_are_refused_before_the_weights_are_read(wan_i2v_folder):
    from alignvid import Recipe, Scalar

    with pytest.raises(ModulationError, match=r"choose a gamma nearer to 1\.35"):
        resolve(sketch(find_model(str(wan_i2v_folder))), Recipe(Scalar(1e-200, {"cross.text": 2.0})), NO_OVERRIDES)


@pytest.mark.parametrize("change", [{"width": 832, "height": 480}, {"frames": 129}], ids=str)
def test_a_size_that_the_miniature_cannot_do_is_refused_before_its_weights_are_read(picture, change):
    spec = GenerationSpec(image=str(picture), prompt="remove the red circle", **change)
    with pytest.raises(InputError, match=r"none beyond 512 pixels and 125 frames.*height=80, width=80, num_frames=9"):
        plan(spec)


def test_the_distilled_miniature_runs_in_four_steps_or_is_refused_before_its_weights_are_read(picture):
    spec = GenerationSpec(model="miniature-4-step", image=str(picture), prompt="remove the red circle")
    planned = plan(spec)
    assert planned.settings.steps == 4 and planned.choice.preset == "miniature-4-step:calibrated"
    with pytest.raises(InputError, match="'miniature-4-step' runs in 4 steps, and was given 10; leave steps out"):
        plan(replace(spec, steps=10))


def test_the_distilled_miniature_is_another_model_than_the_miniature():
    same, other = (model_identity(find_model(name)) for name in ("miniature", "miniature-4-step"))
    assert same["digest"] == other["digest"] and "loras" not in same
    assert other["loras"][0].startswith("pytorch_lora_weights.safetensors@")
