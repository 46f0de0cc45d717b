"""The client of ComfyUI's API: upload a picture, queue a graph, wait for it, fetch what it saved."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from alignvid.bench.judges.address import checked_address, is_loopback, place
from alignvid.errors import AlignvidError, InputError
from alignvid.fields import json_values

_TIMEOUT_S = 60.0
"""Of one request; a graph may take hours."""
_PAUSE_S = 0.5
_MOST_BYTES = 1 << 30
"""Of one answer."""


class ServerGone(InputError):
    """ComfyUI does not answer: wrong for all clips, and not for the one at hand."""


class GraphRefused(AlignvidError):
    """ComfyUI does not take a graph, or a node of it failed."""


class ComfyClient:
    """Talks to one server on this machine."""

    def __init__(self, address: str) -> None:
        """Nothing is asked yet. Raises: InputError if the address is none, or not on this machine."""
        self.address = checked_address(address).rstrip("/")
        if not is_loopback(self.address):
            raise InputError(
                f"ComfyUI at {place(self.address)} is not on this machine, and pictures would leave it; make a tunnel "
                "(ssh -L 8188:127.0.0.1:8188 HOST), and give http://127.0.0.1:8188."
            )
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # loopback needs no proxy
        self._id = secrets.token_hex(8)

    def versions(self) -> dict[str, Any]:
        """What the server says of itself and its machine. Raises: ServerGone."""
        return self._json("/system_stats")

    def has_node(self, kind: str) -> bool:
        """Whether it has nodes of a type."""
        return bool(self._json(f"/object_info/{urllib.parse.quote(kind)}"))

    def used_bytes(self) -> int | None:
        """Memory of its first device that is in use now; None if it does not say."""
        device = next(iter(self.versions().get("devices", [])), {})
        total, free = device.get("vram_total"), device.get("vram_free")
        return total - free if isinstance(total, int) and isinstance(free, int) else None

    def upload(self, name: str, content: bytes) -> str:
        """Put a picture into its input folder; gives the name that LoadImage takes."""
        mark = secrets.token_hex(16)
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        said = self._json("/upload/image", body, f"multipart/form-data; boundary={mark}")
        return "/".join(part for part in (said.get("subfolder"), said["name"]) if part)

    def run(self, graph: Mapping[str, Any], on_poll: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What its history says of a graph once it has run; a Ctrl-C takes it off the queue.

        Raises: GraphRefused if it is not taken, or one of its nodes failed; ServerGone.
        """
        body = json.dumps({"prompt": graph, "client_id": self._id}).encode()
        number = self._json("/prompt", body, "application/json")["prompt_id"]
        try:
            while not (found := self._json(f"/history/{number}").get(number)):
                on_poll()
                time.sleep(_PAUSE_S)
        except BaseException:
            self._take_off(number)
            raise
        _check(found)
        return found

    def fetch(self, file: Mapping[str, Any]) -> bytes:
        """A file that a graph saved, as its history names it."""
        query = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        return self._bytes(f"/view?{urllib.parse.urlencode(query)}")

    def _take_off(self, number: str) -> None:
        """As well as it can be done: the server may be gone."""
        try:
            self._bytes("/queue", json.dumps({"delete": [number]}).encode(), "application/json")
            self._bytes("/interrupt", json.dumps({"prompt_id": number}).encode(), "application/json")
        except AlignvidError:
            return

    def _json(self, path: str, body: bytes | None = None, kind: str = "") -> Any:
        return json_values(self._bytes(path, body, kind), error=ServerGone)

    def _bytes(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(f"{self.address}{path}", body, headers)
        try:
            with self._open(request, timeout=_TIMEOUT_S) as answer:
                return answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            raise GraphRefused(_reason(error)) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServerGone(
                f"ComfyUI at {place(self.address)} does not answer ({reason}); start it, "
                "and type the same line again: what was finished is kept."
            ) from error


def _check(found: Mapping[str, Any]) -> None:
    status = found.get("status", {})
    if status.get("status_str") != "error":
        return
    for kind, said in status.get("messages", []):
        if kind == "execution_error":
            raise GraphRefused(f"ComfyUI's node {said.get('node_type')}: {said.get('exception_message')}")
    raise GraphRefused("ComfyUI stopped the graph; was it interrupted there?")


def _reason(error: urllib.error.HTTPError) -> str:
    """ComfyUI says in JSON what is wrong with a graph, by node."""
    try:
        said = json_values(error.read(1 << 20), error=InputError)
        problems = [said["error"]["message"]]
        for node in (said.get("node_errors") or {}).values():
            problems += [f"{node['class_type']}: {one['message']}, {one['details']}" for one in node["errors"]]
    except (InputError, KeyError, TypeError, OSError):
        return f"ComfyUI answered {error.code} {error.reason}."
    return f"ComfyUI does not take the graph: {'; '.join(problems)}"
