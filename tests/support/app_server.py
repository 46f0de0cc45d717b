"""The page's real server in a thread, for tests that call it or open it in a browser."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from alignvid.app import Door, Server
from alignvid.app.workshop import Workshop


@contextmanager
def served(folder, door=None, **shared):
    """Answers inside the block; gives the server, which has `url` and `door`."""
    ready = threading.Event()
    shop = Workshop(folder, shared)
    server = Server(shop, door or Door(port=0), on_ready=lambda url: ready.set())
    thread = threading.Thread(target=server.run_here)
    thread.start()
    try:
        assert ready.wait(60)
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
