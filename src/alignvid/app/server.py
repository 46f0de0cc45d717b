"""The page's server: the page at /, the runs as files below /runs, nothing else, and all of it behind the door."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from alignvid.app.desk import Desk
from alignvid.app.door import Door, Guard
from alignvid.app.judging import JudgeChoice
from alignvid.app.page import STYLE, THEME, build
from alignvid.app.workshop import Workshop
from alignvid.errors import AlignvidError, InputError

MOST_UPLOADED = "200mb"
_PATIENCE_S = 1  # for answers under way, when the server ends


class Server(uvicorn.Server):
    """A server that listens on its port from the moment it is made."""

    def __init__(self, shop: Workshop, door: Door, on_ready: Callable[[str], None] = lambda url: None) -> None:
        """Build the page and take the port.

        Args:
            shop: Where runs are made.
            door: Where it answers, and what it asks for.
            on_ready: Called with the address when it answers.

        Raises: InputError if the port is taken or not allowed.
        """
        self._socket = _listening(door)
        self.door = replace(door, port=self._socket.getsockname()[1])
        self.url = self.door.url(self.door.port)
        self._on_ready = on_ready
        application = Guard(_application(shop, self.door), self.door)
        super().__init__(
            uvicorn.Config(application, log_level="warning", ws="none", timeout_graceful_shutdown=_PATIENCE_S)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when it answers."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once: a page that is open waits for news, and that it gets none is no error to be logged."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets=sockets)

    def run_here(self) -> None:
        """Answer until Ctrl-C."""
        self.run(sockets=[self._socket])


def serve(
    folder: Path,
    door: Door,
    shared: dict[str, Any],
    judge: JudgeChoice,
    on_ready: Callable[[str], None],
    on_loading: Callable[[], None],
) -> None:
    """Show the page until Ctrl-C, and load the model once it answers.

    Args:
        folder: Of all runs; made if it is missing.
        door: Where it answers, and what it asks for.
        shared: Fields of every spec: model, device, dtype, offload, max_pixels.
        judge: Who says whether a prompt is followed.
        on_ready: Called with the address when it answers.
        on_loading: Called before libraries and model are read.

    Raises: InputError if the port is taken, or there is no such model; UnsupportedModel for one of another kind;
    OutputError if the folder cannot be written to.
    """
    shop = Workshop(folder, shared, judge)
    failed: list[AlignvidError] = []

    def ready(url: str) -> None:
        shop.begin_to_read()
        on_ready(url)
        # Not earlier: torch and the model are read in the same process, which would keep the page from answering.
        threading.Thread(target=warm, name="alignvid warm-up", daemon=True).start()

    def warm() -> None:
        try:
            shop.read(on_loading)
        except AlignvidError as error:
            failed.append(error)
            server.should_exit = True
            return
        with suppress(AlignvidError):  # what else is wrong with the model is said to who asks for a run
            shop.warm_up()

    server = Server(shop, door, ready)
    server.run_here()
    if failed:
        raise failed[0]


def _application(shop: Workshop, door: Door) -> Any:
    outer = FastAPI(openapi_url=None)
    outer.mount("/runs", StaticFiles(directory=shop.root))
    page = build(shop, Desk(shop))
    return gr.mount_gradio_app(
        outer,
        page,
        path="/",
        server_name=door.host,
        server_port=door.port,
        allowed_paths=[str(shop.root)],
        footer_links=["api"],
        run_history=False,
        max_file_size=MOST_UPLOADED,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=THEME,
        css=STYLE,
    )


def _listening(door: Door) -> socket.socket:
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    try:
        return socket.create_server((door.host, door.port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"Port {door.port} is taken; choose another with --port, or 0 for one that is free."
            ) from error
        raise InputError(
            f"Nothing can answer at {door.host!r}, port {door.port}: {error.strerror or error}; choose another --host "
            "or --port."
        ) from error
