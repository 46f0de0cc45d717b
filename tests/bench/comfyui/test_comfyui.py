"""Workflows, the client and its worker, against a server of a few lines; the real one is in tests/comfyui."""

import io
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from PIL import Image

from alignvid.bench.comfyui.client import ComfyClient
from alignvid.bench.comfyui.workflow import read_workflow
from alignvid.bench.trials.planning import plan_trial
from alignvid.bench.trials.running import run_planned
from alignvid.bench.trials.spec import TrialSpec
from alignvid.errors import InputError
from bench_stub import write_data

GRAPH = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "wan/my-wan.safetensors"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "{{image}}"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "{{prompt}}, sharp"}},
    "4": {"class_type": "WanImageToVideo", "inputs": {"width": 48, "height": 32, "length": 5, "positive": ["3", 0]}},
    "5": {"class_type": "AlignVid", "inputs": {"model": ["1", 0], "preset": "auto", "recipe": ["9", 0]}},
    "6": {
        "class_type": "KSampler",
        "inputs": {"model": ["5", 0], "latent_image": ["4", 2], "seed": "{{seed}}", "steps": "{{steps}}", "cfg": 1.0},
    },
    "7": {"class_type": "AlignVidReport", "inputs": {"model": ["5", 0], "after": ["6", 0]}},
    "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    "10": {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}},
}


def written(folder: Path, graph=GRAPH) -> str:
    (folder / "w.json").write_text(json.dumps(graph))
    return str(folder / "w.json")


def test_a_workflow_is_filled_by_type_and_says_its_own_numbers(tmp_path):
    workflow = read_workflow(written(tmp_path))
    graph = workflow.filled({"prompt": "a cat", "image": "c.png", "seed": 7, "steps": 4}, {"preset": "generic:generic"})
    assert graph["6"]["inputs"]["seed"] == 7 and graph["3"]["inputs"]["text"] == "a cat, sharp"
    assert graph["5"]["inputs"]["preset"] == "generic:generic" and "recipe" not in graph["5"]["inputs"]
    assert graph["7-said"] == {"class_type": "PreviewAny", "inputs": {"source": ["7", 2]}}
    defaults = workflow.defaults()
    assert (workflow.name, defaults.width, defaults.height, defaults.frames) == ("my-wan", 48, 32, 5)


def test_for_the_baseline_our_nodes_and_what_reads_their_texts_are_taken_out(tmp_path):
    graph = read_workflow(written(tmp_path)).filled({"prompt": "", "image": "", "seed": 0, "steps": 1}, None)
    assert set(graph) == {"1", "2", "3", "4", "6", "8"}
    assert graph["6"]["inputs"]["model"] == ["1", 0] and graph["8"]["inputs"]["images"] == ["6", 0]


def without(number: str) -> dict:
    return {key: part for key, part in GRAPH.items() if key != number}


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (without("2"), r"lacks the placeholder \{\{image\}\}"),
        (
            {**GRAPH, "11": {"class_type": "X", "inputs": {"a": "{{promt}}"}}},
            r"placeholder \{\{promt\}\}, which is unknown",
        ),
        (without("7"), "no connected AlignVidReport node; put one after the sampler"),
        ({"nodes": [], "links": []}, r"choose Workflow, Export \(API\)"),
        ([], "no workflow in API format"),
    ],
    ids=["no image", "typing error", "no report", "for the page", "a list"],
)
def test_a_workflow_that_cannot_be_used_says_what_to_do(tmp_path, graph, message):
    with pytest.raises(InputError, match=message):
        read_workflow(written(tmp_path, graph))


def test_only_a_server_on_this_machine_is_talked_to_and_one_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="pictures would leave it; make a tunnel"):
        ComfyClient("http://example.org:8188")
    with pytest.raises(InputError, match=r"ComfyUI at http://127\.0\.0\.1:9 does not answer .*start it"):
        ComfyClient("http://127.0.0.1:9").versions()
    spec = TrialSpec(data="omitshapes", steps=4, comfyui="http://127.0.0.1:9", workflow=written(tmp_path))
    with pytest.raises(InputError, match="does not answer"):
        plan_trial(spec)
    with pytest.raises(InputError, match=r"has \{\{steps\}\}; say it with --steps"):
        plan_trial(replace(spec, steps=None))


class FakeServer(BaseHTTPRequestHandler):
    """Answers as ComfyUI's API does, with frames whose colour is the seed."""

    graphs: list[dict]
    refuses = frozenset()

    def do_GET(self):
        path, query = urlparse(self.path).path, parse_qs(urlparse(self.path).query)
        if path == "/view":
            image = Image.fromarray(np.full((32, 48, 3), int(query["filename"][0][:3]), np.uint8))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return self._send(buffer.getvalue())
        if path.startswith("/history/"):
            return self._send({path.rpartition("/")[2]: self._history(self.graphs[-1])})
        return self._send({"devices": [{"vram_total": 100, "vram_free": 40}], "there": True})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            return self._send({"name": "up.png", "subfolder": "", "type": "input"})
        graph = json.loads(body)["prompt"]
        if graph["3"]["inputs"]["text"] in self.refuses:
            return self._send({"error": {"message": "bad"}, "node_errors": {}}, 400)
        self.graphs.append(graph)
        return self._send({"prompt_id": str(len(self.graphs))})

    def _history(self, graph):
        colour = graph["6"]["inputs"]["seed"] % 200
        files = [{"filename": f"{colour:03d}-{n}.png", "subfolder": "", "type": "output"} for n in range(5)]
        outputs = {"8": {"images": files}}
        if "5" in graph:
            run = {"sites": 3, "forwards": 4, "active_forwards": 2, "acted": 6, "notes": []}
            outputs["7-said"] = {"text": [json.dumps({"name": graph["5"]["inputs"]["preset"], "run": run})]}
        messages = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]]
        return {"outputs": outputs, "status": {"status_str": "success", "messages": messages}}

    def _send(self, value, status=200):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said):
        pass


@pytest.fixture
def server():
    FakeServer.graphs = []
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeServer) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def test_a_trial_in_comfyui_leaves_the_records_of_any_run_with_a_proof_for_each_arm(server, tmp_path):
    data = write_data(tmp_path / "data", 2)
    arms = ("still", "baseline", "released", "follow-0.4")
    spec = TrialSpec(
        data=str(data), scenes=2, seeds=(0,), arms=arms, steps=4, comfyui=server, workflow=written(tmp_path)
    )
    said = []
    result = run_planned(plan_trial(spec), tmp_path / "out", consent=lambda cost: said.append(cost) or True)

    assert result.run.made == 8 and not result.run.failed
    assert said[0].step_s == 0.0 and said[0].peak_bytes is None  # the server says 2.5 s for one step and for three
    rows = [json.loads(file.read_text()) for file in (tmp_path / "out" / "videos").glob("*.json")]
    proofs = {row["variant"]: row["proof"] for row in rows}
    assert proofs["baseline"] is None and proofs["released"]["acted"] == 6 and proofs["released"]["name"] == "auto"
    assert {row["seconds"] for row in rows if row["variant"] != "still"} == {2.5}
    assert {(row["frames"], row["width"], row["height"]) for row in rows} == {(5, 48, 32)}
    assert result.registration.host == "comfyui" and result.registration.model["name"] == "my-wan"


def test_a_graph_that_is_refused_costs_its_own_clip_alone(server, tmp_path, monkeypatch):
    data = write_data(tmp_path / "data", 2)
    rows = json.loads((data / "meta.json").read_text())
    rows[1]["prompt"] = "bad words"
    (data / "meta.json").write_text(json.dumps(rows))
    monkeypatch.setattr(FakeServer, "refuses", frozenset({"bad words, sharp"}))
    spec = TrialSpec(
        data=str(data), scenes=2, seeds=(0,), arms=("baseline", "generic"), steps=4, comfyui=server,
        workflow=written(tmp_path),
    )  # fmt: skip
    result = run_planned(plan_trial(spec), tmp_path / "out")
    assert result.run.made == 2 and {row.sample for row in result.run.failed} == {"sample_1"}
    assert all("does not take the graph: bad" in (row.error or "") for row in result.run.failed)
