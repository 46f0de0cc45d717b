import json
import subprocess
import sys

import pytest

from judged_folders import moving_square, sample_of, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [sample_of(n) for n in range(2)], clip=moving_square(4)).path


def test_the_command_prints_where_the_page_is(alignvid, run, tmp_path):
    code, out, err = alignvid("bench", "report", run, "--out", tmp_path / "elsewhere")
    assert (code, out, err) == (0, f"{tmp_path / 'elsewhere' / 'index.html'}\n", "")


def test_the_command_says_in_one_sentence_what_cannot_be_shown(alignvid, run, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = alignvid("bench", "report", run, "--out", tmp_path / "file")
    assert (code, out) == (2, "")
    assert "Cannot write into" in err and err.count("\n") == 1


def test_the_command_says_which_videos_are_damaged_and_ends_with_1(alignvid, run):
    video = sorted((run / "videos").glob("*.mp4"))[0]
    video.write_bytes(video.read_bytes()[:-1])
    code, out, err = alignvid("bench", "report", run, "--json")
    assert (code, json.loads(out)["damaged"]) == (1, 1)
    assert err.startswith("Damaged files of videos: 1 (sample_") and err.count("\n") == 1


def test_scores_and_reports_are_made_without_torch(run):
    program = (
        "import sys; from alignvid.cli import main\n"
        f"try: main(['bench', 'report', {str(run)!r}])\n"
        "finally: assert not {'torch', 'diffusers', 'transformers', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)
