"""An OpenAI-compatible server on loopback that says yes, and misbehaves as often as a test wants."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "tiny-judge"
Behaviour = Callable[["Exchange"], None]


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], attempt: int) -> None:
        self.handler, self.body = handler, body
        self.attempt = attempt
        """Which request about this question it is, from 1."""

    @property
    def question(self) -> str:
        """The text after the video."""
        return self.body["messages"][0]["content"][-1]["text"]

    @property
    def frames(self) -> list[np.ndarray]:
        """The frames as they came."""
        urls = [part[part["type"]]["url"] for part in self.body["messages"][0]["content"][:-1]]
        pictures = [item for url in urls for item in url.split("base64,")[1].split(",")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(item)))) for item in pictures]

    def say(
        self,
        text: str | list | None,
        top: list[tuple[str | None, float | None]] | None = None,
        *,
        finish: str = "stop",
        **message: Any,
    ) -> None:
        """A chat completion; `message` is what stands beside the content."""
        tokens = [{"token": token, "logprob": value, "bytes": None} for token, value in top or []]
        logprobs = {"content": [{**tokens[0], "top_logprobs": tokens}]} if tokens else None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, **message},
            "finish_reason": finish,
            "logprobs": logprobs,
        }
        self.send(200, {"id": "1", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]})

    def refuse(self, status: int, message: str = "no", **headers: str) -> None:
        """An error with a status."""
        self.send(status, {"error": {"message": message}}, **headers)

    def send(self, status: int, content: Any, **headers: str) -> None:
        """Plain data as JSON."""
        self.send_text(status, json.dumps(content), **headers)

    def send_text(self, status: int, text: str, *, missing_bytes: int = 0, **headers: str) -> None:
        """Any text under the name of JSON; with fewer bytes than announced if wanted."""
        self.handler.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        data = text.encode()
        self.handler.send_header("content-length", str(len(data) + missing_bytes))
        self.handler.end_headers()
        self.handler.wfile.write(data)
        if missing_bytes:
            self.handler.close_connection = True


class Stub:
    """What the server saw."""

    def __init__(self, behave: Behaviour, models: list[str], has_version: bool) -> None:
        self.behave, self.models, self.has_version = behave, models, has_version
        self.exchanges: list[Exchange] = []
        self.keys: set[str | None] = set()
        self.in_flight = self.most_in_flight = 0
        self.ends = threading.Event()
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()

    def take(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Count a request, answer it as configured."""
        with self._lock:
            key = json.dumps(body["messages"])
            self._attempts[key] += 1
            exchange = Exchange(handler, body, self._attempts[key])
            self.exchanges.append(exchange)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.behave(exchange)
        finally:
            with self._lock:
                self.in_flight -= 1

    def hang(self) -> None:
        """Say nothing until the test ends."""
        self.ends.wait(30)


@contextmanager
def stub_server(
    behave: Behaviour, *, models: tuple[str, ...] = (MODEL,), has_version: bool = True
) -> Iterator[tuple[Stub, str]]:
    """The server's notes and its address."""
    stub = Stub(behave, list(models), has_version)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stub.keys.add(self.headers.get("authorization"))
            exchange = Exchange(self, {}, 1)
            if self.path == "/v1/models":
                exchange.send(
                    200, {"object": "list", "data": [{"id": name, "object": "model"} for name in stub.models]}
                )
            elif self.path == "/version" and stub.has_version:
                exchange.send(200, {"version": "0.32.0"})
            else:
                exchange.refuse(404)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path != "/v1/chat/completions":
                Exchange(self, {}, 1).refuse(404, "Not Found")
                return
            try:
                stub.take(self, body)
            except (BrokenPipeError, ConnectionResetError):  # the client gave up, as some tests want
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        stub.ends.set()
        server.shutdown()
        thread.join()
        server.server_close()


def slowly(seconds: float) -> Behaviour:
    """Yes, after a while."""

    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.say("Yes, it does.")

    return behave
