"""Runs that make pictures, and runs from prompts alone: planned, made, judged, reported."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import model_folders
from alignvid.bench.judges.frames import QWEN_3, shown_frames
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.running import run
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.media.videos import read_video
from alignvid.report.benchmark import write_report
from judged_folders import answer_of


@pytest.fixture(scope="module")
def editing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editing")
    Image.new("RGB", (48, 32), (90, 30, 30)).save(folder / "a.png")
    row = {"id": "one", "image": "a.png", "instruction": "the cat puts on sunglasses", "task_type": "add"}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    return folder


@pytest.fixture(scope="module")
def made(editing, tmp_path_factory):
    """A run of an editing model whose language model sees the picture."""
    model = model_folders.save_qwen_image_edit(tmp_path_factory.mktemp("models") / "edit")
    settings = {"steps": 2, "guidance": 1.0, "width": 64, "height": 64}
    spec = BenchSpec(
        data=f"editing:{editing}", variants=("baseline", "still", "gamma=2 streams=text"), model=str(model), **settings
    )
    out = tmp_path_factory.mktemp("run") / "run"
    return run(spec, out), RunFolder(out)


def report_of(folder, out):
    """The report of a run whose every question is answered with yes."""
    asked = {sample.id: sample.questions for sample in folder.samples()}
    folder.add_answers(answer_of(row, one, Verdict.YES) for row in folder.videos() for one in asked[row.sample])
    write_report(folder.path, out, score_run(folder, Asked(), {}))


def test_an_editing_model_makes_a_picture_of_each_job(made):
    result, folder = made
    assert (result.made, result.failed) == (3, [])
    videos = folder.videos()
    assert all(video.file == f"videos/{video.job}.png" and folder.is_whole(video) for video in videos)
    assert {(video.frames, video.width, video.height) for video in videos} == {(1, 64, 64)}
    still = next(video for video in videos if video.variant == "still")
    with Image.open(folder.path / still.file) as picture:
        assert picture.convert("RGB").getpixel((5, 5)) == (90, 30, 30)


def test_a_judge_sees_a_picture_as_two_equal_frames(made):
    _, folder = made
    clip = read_video(folder.path / folder.videos()[0].file)
    shown = shown_frames(clip, QWEN_3)
    assert len(shown.frames) == 2 and (shown.frames[0] == shown.frames[1]).all()


def test_the_report_shows_pictures_beside_the_one_they_are_made_of(made, tmp_path):
    _, folder = made
    report_of(folder, tmp_path / "report")
    gallery = json.loads(
        (tmp_path / "report" / "gallery.js").read_text().removeprefix("const GALLERY = ").rstrip(";\n")
    )
    (sample,) = gallery["samples"]
    files = [seeds[0]["file"] for seeds in sample["videos"]]
    assert sample["image"] == "images/one.png" and all(file.endswith(".png") for file in files)
    assert all((tmp_path / "report" / file).is_file() for file in [sample["image"], *files])


def test_a_text_to_video_model_runs_prompts_alone(tmp_path):
    (tmp_path / "color.txt").write_text("a red circle\nthe dog disappears\n")
    model = model_folders.save_wan_t2v(tmp_path / "wan")
    settings = {"steps": 2, "guidance": 1.0, "width": 32, "height": 32, "frames": 5}
    data = f"t2v:{tmp_path / 'color.txt'}"
    spec = BenchSpec(data=data, variants=("baseline", "gamma=2"), model=str(model), **settings)
    result = run(spec, tmp_path / "run")
    assert (result.made, result.failed) == (4, [])
    folder = RunFolder(tmp_path / "run")
    assert [sample.image_path for sample in folder.samples()] == [None, None]
    report_of(folder, tmp_path / "report")
    assert '"image":null' in (tmp_path / "report" / "gallery.js").read_text()
    with pytest.raises(InputError, match=r"Variant 'still' needs a reference picture \(still\)"):
        make_plan(BenchSpec(data=data, variants=("still",), model=str(model), **settings))
    with pytest.raises(InputError, match="needs a reference image"):
        make_plan(BenchSpec(data=data, variants=("baseline",)))
