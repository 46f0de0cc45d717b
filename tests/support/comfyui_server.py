"""A real ComfyUI server on loopback, from a checkout, with the pack in a base folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfyui_pack import FOLDER

_STARTS_IN_S = 900  # on a loaded machine; 65 on an idle one
_TORCHAUDIO = "__version__ = '2.13.0'\n"  # it does not load beside a CPU torch, and is imported unconditionally


class Server:
    """What tests ask of a server that is running."""

    def __init__(self, port: int, base: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.base = base

    def text(self, path: str) -> str:
        """A page."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as reply:
            return reply.read().decode()

    def get(self, path: str) -> Any:
        """JSON of a page."""
        return json.loads(self.text(path))

    def send(self, path: str, values: dict[str, Any]) -> tuple[int, Any]:
        """Status and answer to what is posted."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(values).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def post(self, prompt: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer to a graph that is queued."""
        return self.send("/prompt", {"prompt": prompt})

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """What the server says of a graph once it is done."""
        status, answer = self.post(prompt)
        assert status == 200, answer
        return self.finished(answer["prompt_id"])

    def finished(self, number: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """What the server says of a graph that is queued, once it is done."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if found := self.get(f"/history/{number}"):
                return found[number]
            time.sleep(0.3)
        raise TimeoutError(f"the server did not finish {number}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def running(checkout: Path, base: Path, nodes: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that ends with the block. `nodes`: more custom nodes, code by name of the file."""
    (base / "custom_nodes").mkdir(parents=True)
    for folder in ("input", "output", "models", "user", "temp"):
        (base / folder).mkdir()
    shutil.copytree(FOLDER, base / "custom_nodes" / "alignvid", ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in (nodes or {}).items():
        (base / "custom_nodes" / name).write_text(code, encoding="utf-8")
    stub = base / "stubs" / "torchaudio"
    stub.mkdir(parents=True)
    for name in ("__init__", "functional", "transforms"):
        (stub / f"{name}.py").write_text(_TORCHAUDIO, encoding="utf-8")
    port = _free_port()
    command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--disable-api-nodes", "--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    environment = {**os.environ, "PYTHONPATH": str(stub.parent)}
    with (base / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            server = Server(port, base)
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_IN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError((server.base / "server.log").read_text(encoding="utf-8")[-3000:])
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(1.0)
    raise TimeoutError((server.base / "server.log").read_text(encoding="utf-8")[-3000:])
