import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import model_folders
from alignvid.errors import AlignvidError, InputError, OutputError
from alignvid.generate import GenerationSpec, generate, loading, repeat
from alignvid.media.videos import read_video
from full_disk import MEBIBYTE, file_size_limit


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_comparison_leaves_three_videos_the_reference_and_a_record(i2v_spec, tmp_path):
    made = generate(i2v_spec, tmp_path, compare=True)
    assert names(tmp_path) == ["alignvid.mp4", "baseline.mp4", "record.json", "reference.png", "side_by_side.mp4"]
    for role, width in {"alignvid": 32, "baseline": 32, "side_by_side": 72}.items():
        clip = read_video(tmp_path / f"{role}.mp4")
        assert clip.frames.shape == (5, 32, width, 3)
        assert clip.fps == 16
        # noise of an untrained model is the worst case for H.264
        assert np.abs(clip.frames.astype(int) - made.frames[role]).mean() < 25


def test_without_compare_there_is_one_video(i2v_spec, tmp_path):
    generate(i2v_spec, tmp_path)
    assert names(tmp_path) == ["alignvid.mp4", "record.json", "reference.png"]


def test_the_baseline_is_the_bare_pipeline_at_the_same_seed(i2v_spec, tmp_path):
    made = generate(i2v_spec, tmp_path / "a", compare=True)
    neutral = generate(replace(i2v_spec, gamma=1.0), tmp_path / "b")
    assert np.array_equal(made.frames["baseline"], neutral.frames["alignvid"])
    assert not np.array_equal(made.frames["baseline"], made.frames["alignvid"])


def test_the_record_says_what_ran_and_how_often_it_acted(i2v_spec, tmp_path):
    generate(replace(i2v_spec, gamma=1.5, steps_window="0.0-0.5"), tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["recipe"]["modulation"]["gamma"] == 1.5
    assert record["attachment"]["active_forwards"] == 2  # one of two steps, two passes of guidance
    assert record["settings"] == {"width": 32, "height": 32, "frames": 5, "steps": 2, "guidance": 5.0, "fps": 16.0}
    assert record["machine"]["dtype"] == "float32"
    assert {"python", "torch", "diffusers", "transformers", "alignvid"} <= set(record["versions"])


def test_a_record_repeats_the_same_frames(i2v_spec, tmp_path):
    first = generate(replace(i2v_spec, gamma=1.5, seed=7), tmp_path / "a", compare=True)
    second = repeat(tmp_path / "a" / "record.json", tmp_path / "b", compare=True)
    for role, frames in first.frames.items():
        assert np.array_equal(frames, second.frames[role])
    assert (tmp_path / "a" / "alignvid.mp4").read_bytes() == (tmp_path / "b" / "alignvid.mp4").read_bytes()


def test_a_record_repeats_without_the_original_picture(i2v_spec, tmp_path):
    picture = tmp_path / "mine.png"
    Image.open(i2v_spec.image).save(picture)
    first = generate(replace(i2v_spec, image=str(picture)), tmp_path / "a")
    picture.unlink()
    second = repeat(tmp_path / "a", tmp_path / "b")
    assert np.array_equal(first.frames["alignvid"], second.frames["alignvid"])


def test_a_record_repeats_with_a_change(i2v_spec, tmp_path):
    first = generate(i2v_spec, tmp_path / "a")
    second = repeat(tmp_path / "a", tmp_path / "b", changes={"seed": 5})
    assert second.record.spec["seed"] == 5
    assert not np.array_equal(first.frames["alignvid"], second.frames["alignvid"])


def test_a_record_whose_image_was_changed_is_refused(i2v_spec, tmp_path):
    generate(i2v_spec, tmp_path / "a")
    Image.new("RGB", (32, 32)).save(tmp_path / "a" / "reference.png")
    with pytest.raises(InputError, match="is not the one of the record"):
        repeat(tmp_path / "a", tmp_path / "b")


def test_text_to_video_needs_no_image(wan_t2v_folder, tmp_path):
    spec = GenerationSpec(model=str(wan_t2v_folder), prompt="the cat", width=32, height=32, frames=5, steps=2)
    made = generate(spec, tmp_path)
    assert names(tmp_path) == ["alignvid.mp4", "record.json"]
    assert made.record.image is None


def test_the_model_is_left_as_it_was(i2v_spec, tmp_path):
    from alignvid.generate import load_model
    from alignvid.generate.loading import find_model

    model = load_model(find_model(i2v_spec.model), i2v_spec, show_progress=False)
    first = generate(i2v_spec, tmp_path / "a", compare=True, model=model)
    second = generate(i2v_spec, tmp_path / "b", compare=True, model=model)
    assert np.array_equal(first.frames["baseline"], second.frames["baseline"])
    assert np.array_equal(first.frames["alignvid"], second.frames["alignvid"])


def test_a_huge_gamma_is_a_warning_that_the_record_keeps(i2v_spec, tmp_path):
    with pytest.warns(UserWarning, match="gamma 100"):
        made = generate(replace(i2v_spec, gamma=100.0), tmp_path)
    assert "gamma 100" in made.record.notes[0]


def test_a_negative_prompt_without_guidance_is_a_warning(i2v_spec, tmp_path):
    with pytest.warns(UserWarning, match="negative prompt has no effect"):
        generate(replace(i2v_spec, negative_prompt="a dog", guidance=1.0), tmp_path)


def test_an_animated_reference_is_a_warning(i2v_spec, tmp_path):
    images = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    with pytest.warns(UserWarning, match="has 2 frames"):
        generate(replace(i2v_spec, image=str(tmp_path / "a.gif")), tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"image": "missing.png"},
        {"image": None},
        {"preset": "nothing"},
        {"preset": "framepack"},
        {"blocks": "9"},
        {"streams": "history"},
        {"model": "nothing"},
        {"device": "cuda:99"},
    ],
    ids=str,
)
def test_bad_input_leaves_nothing_behind(i2v_spec, tmp_path, change):
    with pytest.raises(AlignvidError):
        generate(replace(i2v_spec, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_loaded(i2v_spec, tmp_path, monkeypatch):
    from alignvid.generate import run

    monkeypatch.setattr(run, "load_model", None)  # calling it would be a TypeError
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="Cannot write into"):
        generate(i2v_spec, tmp_path / "out")


def test_a_disk_that_fills_up_leaves_the_former_result(i2v_spec, tmp_path):
    generate(i2v_spec, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    larger = replace(i2v_spec, width=96, height=96, frames=17)
    with file_size_limit(MEBIBYTE // 64), pytest.raises(OutputError, match="nothing there was changed"):
        generate(larger, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_framepack_is_assembled_from_the_models_that_it_is_published_with(picture, tmp_path, monkeypatch):
    folders = model_folders.save_framepack_f1(tmp_path / "models")
    monkeypatch.setattr(loading, "_FRAMEPACK_BASE", str(folders.base))
    monkeypatch.setattr(loading, "_FRAMEPACK_IMAGE_ENCODER", str(folders.image_encoder))
    size = {"width": 48, "height": 32, "frames": 9, "steps": 2}
    spec = GenerationSpec(model=str(folders.transformer), image=str(picture), prompt="the cat " * 12, gamma=1.5, **size)
    made = generate(spec, tmp_path / "out", compare=True)
    assert made.record.model["pipeline"] == "HunyuanVideoFramepackPipeline"
    assert made.record.attachment["acted"] > 0
    assert read_video(tmp_path / "out" / "alignvid.mp4").fps == 30


def test_wan22_runs_both_of_its_transformers(picture, tmp_path):
    folder = model_folders.save_wan22_i2v(tmp_path / "model")
    size = {"width": 32, "height": 32, "frames": 5, "steps": 3}
    spec = GenerationSpec(model=str(folder), image=str(picture), prompt="the cat", steps_window="all", **size)
    made = generate(spec, tmp_path / "out")
    assert set(made.record.attachment["blocks"]) == {"transformer", "transformer_2"}
    assert made.record.attachment["active_forwards"] == made.record.attachment["forwards"] == 6


def test_guidance_in_the_first_steps_alone_is_recorded_and_repeated(i2v_spec, tmp_path):
    made = generate(replace(i2v_spec, guidance=3.0, cfg_high=1), tmp_path / "a")
    assert made.record.attachment["forwards"] == 3 and made.record.spec["cfg_high"] == 1
    again = repeat(tmp_path / "a", tmp_path / "b")
    assert np.array_equal(made.frames["alignvid"], again.frames["alignvid"])
    with pytest.raises(InputError, match="cfg_high=1 needs guidance to end, but guidance is 1"):
        generate(replace(i2v_spec, guidance=1.0, cfg_high=1), tmp_path / "c")
