"""examples/serve.py, where Ray Serve is installed: requests at once, each with a gain of its own."""

import base64
import importlib.util
import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PORT = 8765
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # replicas import torch and diffusers


def module():
    spec = importlib.util.spec_from_file_location("serve_example", EXAMPLES / "serve.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # for Ray, which sends it to the replicas by value
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("ray.serve")
    from alignvid.bench.runs.ray_pool import LOCAL, _connected

    example, ray = module(), _connected(LOCAL, 4)
    try:
        ray.cloudpickle.register_pickle_by_value(example)
        example.serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        options = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 1}, "health_check_timeout_s": 300}
        example.serve.run(example.Videos.options(**options).bind("miniature"))
        yield f"http://127.0.0.1:{PORT}/"
        example.serve.shutdown()
    finally:
        ray.shutdown()


def asked(address, **values):
    body = json.dumps({"prompt": "add a green circle at the top left", "steps": 2, **values}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=900) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_requests_at_once_get_the_clip_of_their_own_gain_and_seed(address):
    picture = base64.b64encode((EXAMPLES / "scene-1.png").read_bytes()).decode()
    wanted = [(seed, gamma) for seed in (0, 1) for gamma in (1.0, 1.5, 2.5)] * 2
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(asked, address, image=picture, seed=s, gamma=g) for s, g in wanted]
        found = {}
        for place, call in zip(wanted, calls, strict=True):
            status, clip = call.result()
            assert status == 200
            assert found.setdefault(place, clip) == clip  # the second time, perhaps on the other replica
    assert len(set(found.values())) == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"gama": 1.5}, "'gama' is unknown"),
        ({"image": "no picture"}, "base64"),
        ({"seed": "1"}, "must be int"),
        ({}, "reference image"),
    ],
)
def test_a_bad_request_is_answered_with_alignvids_sentence(address, values, message):
    status, said = asked(address, **values)
    assert status == 400 and message in json.loads(said)["error"]
