"""Against a real vLLM server on the CPU: `make test-vllm` makes its environment and runs this file."""

import math
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from alignvid.bench.judges import JudgeOptions, asking, open_judge
from alignvid.bench.judges.frames import shown_frames
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.judges.messages import body, content, frame_times
from alignvid.bench.verdicts import Verdict
from alignvid.media.videos import read_video
from rendered_runs import rendered_run
from tiny_qwen import make_qwen_2_5

PYTHON = os.environ.get("ALIGNVID_VLLM")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(PYTHON is None, reason="needs vLLM's own environment: make test-vllm"),
]
PATIENCE_S = 900
WITHIN = 1e-5
"""Nats. Sums of single-precision numbers in another order differ by about 1e-6."""

HALF = "\ufffd"
"""Half a character at the end: random weights say such things; vLLM holds it back, decoding all tokens does not."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_qwen_2_5(tmp_path_factory.mktemp("model") / "tiny-judge")


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    """Of a vLLM server that serves the tiny model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("vllm") / "log").open("w")
    process = subprocess.Popen(_command(model, port), env=_environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, Path(log.name))
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


@pytest.fixture
def run(tmp_path):
    return rendered_run(tmp_path / "run", samples=2)


def _command(model, port):
    options = {
        "--model": model,
        "--served-model-name": "tiny-judge",
        "--host": "127.0.0.1",
        "--port": port,
        "--dtype": "float32",
        "--max-model-len": 8192,
        "--max-num-seqs": 4,
        "--limit-mm-per-prompt": '{"video":1,"image":0}',
        "--media-io-kwargs": '{"video":{"num_frames":-1}}',
    }
    flags = ["--enforce-eager", "--trust-request-mm-kwargs"]
    words = [str(word) for pair in options.items() for word in pair]
    return [PYTHON, "-m", "vllm.entrypoints.openai.api_server", *words, *flags]


def _environment():
    alone = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    small = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return {**os.environ, **alone, **small}


def _wait_for(url, process, log):
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(2)
    pytest.fail(f"vLLM did not start: {log.read_text()[-3000:]}")


def test_log_probabilities_agree(run, model, address):
    from openai import OpenAI

    here = open_judge("transformers", JudgeOptions(protocol="logit", model=str(model)))
    there = open_judge("openai", JudgeOptions(protocol="logit", base_url=address))
    largest = 0.0
    with OpenAI(base_url=address, api_key="none") as client:
        for record in run.videos():
            shown = shown_frames(read_video(run.path / record.file), here.sampling)
            watched = here.model.watch(shown)
            for question in run.samples()[0].questions[:2]:
                text = asking.prompt(question)
                parts, times = content(shown, "video"), frame_times(shown, "video")
                asked = body(model=there.model, protocol="logit", shown=parts, times=times, text=text)
                top = client.chat.completions.create(**asked).choices[0].logprobs.content[0].top_logprobs
                ours = [value for _, value in here.model.likeliest(watched, text, asking.TOP_TOKENS)]
                theirs = sorted((item.logprob for item in top), reverse=True)[: len(ours)]
                largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    print(f"largest difference in log-probability: {largest:.1e}")
    assert largest <= WITHIN


@pytest.mark.parametrize("protocol", asking.PROTOCOLS)
def test_both_engines_judge_a_run_alike(run, model, address, protocol):
    """Verdict and text; the model's repetition penalty acts in both."""
    for name, options in {"transformers": {"model": str(model)}, "openai": {"base_url": address}}.items():
        judge = open_judge(name, JudgeOptions(protocol=protocol, **options))
        tally = judge_run(run, judge, limit=None, on_answer=lambda row, count: None)
        assert tally.verdicts[Verdict.FAILED] == 0

    here, there = ({} for _ in range(2))
    for row in run.answers():
        (here if row.judge.startswith("transformers") else there)[row.job, row.question] = row
    assert set(here) == set(there)
    for key, row in here.items():
        assert there[key].verdict == row.verdict
        assert there[key].reply.rstrip(HALF) == row.reply.rstrip(HALF)
        if row.p_yes is not None:
            assert math.isclose(there[key].p_yes, row.p_yes, abs_tol=WITHIN)
