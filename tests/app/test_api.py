"""What programs call, with Gradio's own client: the same runs as on the page, one after the other."""

import json
import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from alignvid.app import Door
from alignvid.app.desk import made_scene
from alignvid.generate.record import read_record
from alignvid.media.videos import read_video
from app_server import served

TOKEN = "a-token-of-23-characters"
EXAMPLE = "add a green circle at the top left"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def client(runs):
    with served(runs, Door(port=0, token=TOKEN)) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        yield Client(server.url, headers=headers, verbose=False, analytics_enabled=False)


def test_a_run_gives_its_steps_its_record_and_both_videos_and_is_repeated_exactly(client, runs, tmp_path):
    made_scene(0)[0].save(tmp_path / "scene.png")
    job = client.submit(
        picture=handle_file(tmp_path / "scene.png"), prompt=made_scene(0)[1], follow=0.5, steps=2, api_name="/generate"
    )
    run, video, baseline = job.result(timeout=120)
    stages = [said["stage"] for said, _, _ in job.outputs()[:-1]]
    assert stages.count("steps") == 2 * 3 and stages[-1] == "encoding"
    assert run["record"] == json.loads((runs / run["run"] / "record.json").read_text())
    assert run["record"]["spec"]["follow"] == 0.5 and run["record"]["settings"]["steps"] == 2
    assert read_video(video).frames.shape == read_video(baseline).frames.shape
    again, *_ = client.predict(run=run["run"], api_name="/repeat")
    both = [read_record(runs / name).outputs["alignvid"]["frames_sha256"] for name in (run["run"], again["run"])]
    assert both[0] == both[1] and run["run"] != again["run"]
    assert [one["run"] for one in client.predict(api_name="/runs")] == sorted((run["run"], again["run"]), reverse=True)


@pytest.mark.slow
def test_the_program_of_the_documentation_runs_as_it_stands(client, monkeypatch, capsys):
    """docs/app.md, but for the address, which is that of this server."""
    root = Path(__file__).parents[2]
    (program,) = re.findall(r"^```python\n(.*?)^```$", (root / "docs" / "app.md").read_text(), re.MULTILINE | re.DOTALL)
    here = f'Client("{client.src}", headers={{"Authorization": "Bearer {TOKEN}"}})'
    monkeypatch.chdir(root)
    exec(program.replace('Client("http://127.0.0.1:7860/")', here), {})
    name, acted = capsys.readouterr().out.split()[-2:]
    assert name and int(acted) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"prompt": EXAMPLE}, "needs a reference image; put one into the form"),
        ({"prompt": EXAMPLE, "model": "no/such model"}, "is not there; give 'miniature'"),
    ],
)
def test_what_is_wrong_is_one_sentence(client, fields, said):
    with pytest.raises(AppError, match=said):
        client.predict(**fields, api_name="/generate")


def test_the_endpoints_are_those_that_are_documented(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/generate", "/repeat", "/runs", "/follow", "/attention"}
