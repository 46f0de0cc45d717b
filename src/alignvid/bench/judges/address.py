"""The address of a server: what it must be, and what about it or about the environment may be behind a trouble."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from alignvid.errors import InputError

EXAMPLE = "http://127.0.0.1:8000/v1"
_VERSION = re.compile(r"/v\d|/openai")
"""What the path of an interface like OpenAI's holds with the servers and services that have one."""


def checked_address(text: str) -> str:
    """The address without spaces around it. Raises: InputError if it is none."""
    address = text.strip()
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        reason = ""
    except ValueError as error:  # a port that is no number or above 65535, half an IPv6 address
        is_address, reason = False, f" ({error})"
    if not is_address or not address.isascii() or re.search(r"[\s\x00-\x20\x7f\\<>\"^`{|}]", address):
        raise InputError(f"--base-url {text!r} is no address{reason}; give one such as {EXAMPLE}.")
    return address


def place(address: str) -> str:
    """The address for messages, without user name, password and query."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def is_loopback(address: str) -> bool:
    """Whether the server is on this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_variable(address: str) -> str | None:
    """The environment variable whose proxy takes the requests to this address, if one does."""
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    for kind in (parts.scheme, "all"):
        if proxies.get(kind):
            return next((name for name in _spellings(kind) if os.environ.get(name)), f"{kind}_proxy")
    return None


def notes(address: str) -> str:
    """What to look at where a server does not behave as one: each a sentence after a space, or nothing."""
    return _version_note(address) + proxy_note(address)


def proxy_note(address: str) -> str:
    """Names the proxy that stands between, if there is one."""
    variable, parts = proxy_variable(address), urlsplit(address)
    if variable is None:
        return ""
    return (
        f" The variable {variable} sends requests to {parts.hostname} through a proxy; if that is not meant, set "
        f"NO_PROXY={parts.hostname}."
    )


def _version_note(address: str) -> str:
    parts: SplitResult = urlsplit(address)
    if _VERSION.search(parts.path):
        return ""
    return f" Most servers want an address that ends in /v1: try --base-url {place(address).rstrip('/')}/v1."


def _spellings(kind: str) -> tuple[str, str]:
    return f"{kind}_proxy", f"{kind}_proxy".upper()
