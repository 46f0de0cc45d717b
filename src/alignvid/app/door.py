"""Who may come in: this machine alone unless a token is asked for, and no page of another site."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from html import escape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from alignvid.errors import InputError

LEAST_TOKEN = 16
"""Characters; 16 of `secrets.token_urlsafe` are 96 bits, which nobody tries out over a network."""
_HEADERS = {
    # What Gradio's own files need, and nothing from elsewhere: a second barrier, should a part of it ask for a font.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Door:
    """Where the page answers, and what it asks for.

    Raises: InputError if it would be open to others without a token, or the token is short.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    """0: one that is free."""
    token: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise InputError(f"Port {self.port} is out of range; choose a number from 0, a free one, to 65,535.")
        if self.token is None and not self.is_for_this_machine:
            raise InputError(
                f"Host {self.host!r} is open to other machines, and no token is asked for; give one with --token or "
                'in ALIGNVID_TOKEN, such as from `python -c "import secrets; print(secrets.token_urlsafe())"`.'
            )
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise InputError(
                f"The token has {len(self.token)} characters; give at least {LEAST_TOKEN}, such as from "
                '`python -c "import secrets; print(secrets.token_urlsafe())"`.'
            )

    @property
    def is_for_this_machine(self) -> bool:
        """Whether no other machine reaches it."""
        return is_loopback(self.host)

    def url(self, port: int) -> str:
        """What to open, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """In front of an application: turns away other sites and who lacks the token, and adds headers to every answer.

    On a loopback address the Host of a request must be one, too: a name that another site lets point here is none.
    """

    def __init__(self, application: Application, door: Door) -> None:
        """Args: application: what is behind it. door: what it asks for."""
        self._application, self._door = application, door
        self._pass = (
            None if door.token is None else hmac.new(door.token.encode(), b"cookie", hashlib.sha256).hexdigest()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._application(scope, receive, send)
            return  # no websocket is needed, so none is opened
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if reason := self._foreign(headers):
            await _answer(send, 403, reason)
        elif self._pass is None or self._has_token(headers):
            await self._application(scope, receive, _with_headers(send))
        elif self._is_token(query.pop("token", "")):
            cookie = f"{self._cookie}={self._pass}; HttpOnly; SameSite=Strict; Path=/"
            place = scope["path"] + (f"?{urlencode(query)}" if query else "")
            await _answer(send, 303, "", {"location": place, "set-cookie": cookie})
        else:
            await _answer(send, 401, _ASK, {"content-type": "text/html; charset=utf-8"})

    @property
    def _cookie(self) -> str:
        return f"alignvid-{self._door.port}"  # browsers keep no two ports of a machine apart

    def _foreign(self, headers: dict[str, str]) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._door.is_for_this_machine and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return f"This page answers to addresses of this machine, not to {escape(host)}."
        if origin is not None and urlsplit(origin).netloc != host:
            return f"This page takes nothing from {escape(origin)}."
        return None

    def _has_token(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), (self._pass or "").encode())

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._door.token or "").encode())


_ASK = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>alignvid</title><style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto; padding: 0 1rem }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; margin-top: .6rem }
</style><h1>alignvid</h1><form><label>Token, as given to <code>alignvid app --token</code>
<input name="token" type="password" autocomplete="current-password" autofocus required></label>
<button>Open</button></form>
</html>"""


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_encoded(_HEADERS)]
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    said = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **_HEADERS, **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(said)})
    await send({"type": "http.response.body", "body": text.encode()})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
