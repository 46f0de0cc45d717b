import os
from pathlib import Path

import pytest

import model_folders
from alignvid.cli.watching import Watch
from alignvid.generate.progress import Progress

if os.name == "posix":
    from terminals import on_terminal

PICTURE = Path(__file__).parent.parent.parent / "examples" / "scene-1.png"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_terminal_sees_a_line_at_once_the_choice_folded_and_a_bar_of_the_steps(tmp_path):
    wan = model_folders.save_wan_i2v(tmp_path / "wan")
    spec = ("--image", PICTURE, "--prompt", "the cat", "--size", "32x32", "--frames", "5", "--steps", "2")
    code, text = on_terminal("generate", "--model", wan, *spec, "--blocks", "0,2", "--out", tmp_path / "out")
    assert code == 0
    lines = [piece for line in text.splitlines() for piece in line.split("\r")]
    assert lines[0] == "loading PyTorch and diffusers"
    folded = [line for line in lines if line.startswith(("preset ", "          ")) and str(wan) not in line]
    assert len(folded) >= 2 and max(map(len, folded)) < 80
    assert any(line.startswith("with AlignVid: 100%") and "2/2" in line for line in lines)
    assert lines.index("decoding the video with AlignVid") < lines.index("encoding")
    assert any(line.startswith("acted in 2 of 4 forwards at ") for line in lines)


def test_many_videos_say_no_stage_in_a_pipe(capsys):
    with Watch(is_for_many=True) as watch:
        watch.show(Progress("loading"))
        watch.show(Progress("steps", "alignvid", 0, 10))
    assert capsys.readouterr().err == ""


def test_one_video_says_each_stage_in_a_pipe_and_no_step(capsys):
    with Watch() as watch:
        for progress in (Progress("steps", "baseline", 0, 2), Progress("steps", "baseline", 1, 2)):
            watch.show(progress)
        watch.show(Progress("decoding", "baseline"))
    assert capsys.readouterr().err == "without AlignVid: 2 steps\ndecoding the video without AlignVid\n"
