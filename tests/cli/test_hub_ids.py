"""Models by their id on the Hub, from a cache as huggingface_hub leaves it and without a connection: the whole command.

Each command is a process of its own, for huggingface_hub reads where its cache is when it is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from alignvid.generate.record import read_record
from alignvid.miniature import weights_folder
from app_server import served
from stub_server import stub_server

PICTURE = Path(__file__).parents[2] / "examples" / "scene-1.png"
ID, REVISION = "someone/miniature", "0123456789abcdef0123456789abcdef01234567"
ASKED = ("--image", str(PICTURE), "--prompt", "add a green circle at the top left", "--steps", "1")
SIZE = ("--guidance", "1", "--size", "80x80", "--frames", "9")
SENTENCE = (
    "Model 'someone/minature' is no folder here, and model_index.json cannot be fetched from the Hugging Face Hub"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> dict[str, str]:
    """An environment whose cache of the Hub holds the miniature under an id."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub" / "models--someone--miniature"
    shutil.copytree(weights_folder(), repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return own | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def alignvid(hub: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alignvid", *map(str, arguments)]
    return subprocess.run(command, env=hub, capture_output=True, text=True, check=False)


def test_generate_makes_the_frames_of_the_same_files_in_a_folder(hub, tmp_path):
    for name, model in {"id": ID, "folder": weights_folder()}.items():
        done = alignvid(hub, "generate", "--model", model, *ASKED, *SIZE, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    by_id, by_folder = (read_record(tmp_path / name) for name in ("id", "folder"))
    assert by_id.model["name"] == ID
    assert by_id.outputs["alignvid"]["frames_sha256"] == by_folder.outputs["alignvid"]["frames_sha256"]


def test_the_loop_asks_its_judge_about_a_model_with_an_id(hub, tmp_path):
    with stub_server(lambda exchange: exchange.say("Yes, it is.")) as (stub, address):
        judge = ("--judge", "openai", "--base-url", address, "--ask", "Is there a green circle?", "--may-stand-still")
        line = ("generate", "--model", ID, *ASKED, *SIZE, "--until-followed", *judge, "--out", tmp_path / "out")
        done = alignvid(hub, *line, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_followed"] and len(stub.exchanges) == 1


@pytest.mark.parametrize("command", ["generate", "loop", "app"])
def test_an_id_that_is_not_there_is_one_sentence_and_2(hub, tmp_path, command):
    lines = {
        "generate": ("generate", *ASKED),
        "loop": ("generate", *ASKED, "--until-followed", "--judge", "openai", "--base-url", "http://127.0.0.1:9/v1"),
        "app": ("app", "--port", "0"),
    }
    done = alignvid(hub, *lines[command], "--model", "someone/minature", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert SENTENCE in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_the_page_makes_a_video_with_a_model_that_has_an_id(hub, tmp_path):
    token = "a-token-of-23-characters"
    with served(tmp_path, token, "--model", ID, env=hub) as url:
        client = Client(url, headers={"Authorization": f"Bearer {token}"}, verbose=False, analytics_enabled=False)
        asked = {
            "prompt": "add a green circle at the top left",
            "steps": 1,
            "guidance": 1,
            "size": "80x80",
            "frames": 9,
        }
        run, video, baseline = client.predict(picture=handle_file(PICTURE), **asked, api_name="/generate")
    assert run["record"]["model"]["name"] == ID and Path(video).is_file() and Path(baseline).is_file()
