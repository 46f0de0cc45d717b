"""An OpenAI-compatible server: where it is, what it serves, and what its errors mean."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alignvid.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_NO_KEY = "none"  # servers of one's own ask for no key, the client does
_PROBE_TIMEOUT_S = 10.0
_OVERLOAD = (429, 503, 529)
_TRANSIENT = (408, 409)


class Trouble(Exception):
    """A request was not answered; another attempt may be."""

    def __init__(
        self, reason: str, *, retry_after_s: float = 0.0, is_overload: bool = False, is_unreachable: bool = False
    ) -> None:
        """Why, and what it says about the server."""
        super().__init__(reason)
        self.retry_after_s, self.is_overload, self.is_unreachable = retry_after_s, is_overload, is_unreachable


class Refused(Exception):
    """The server will not answer this request, however often it is asked."""


@dataclass(frozen=True)
class Endpoint:
    """An address, and how to ask there."""

    base_url: str
    api_key: str
    timeout_s: float

    @property
    def place(self) -> str:
        """The address for messages, without user name, password and query."""
        parts = urlsplit(self.base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

    def client(self) -> AsyncOpenAI:
        """A client for the requests of one pass."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=0, timeout=self.timeout_s)

    async def complete(self, client: AsyncOpenAI, body: dict[str, Any]) -> Any:
        """One chat completion.

        Raises: Trouble, Refused, or InputError if the server will answer no request at all.
        """
        import openai

        try:
            async with asyncio.timeout(self.timeout_s):  # the client's own limit starts anew with each byte
                return await client.chat.completions.create(**body)
        except (openai.APITimeoutError, TimeoutError) as error:
            raise Trouble(f"no answer within {self.timeout_s:g} s", is_overload=True) from error
        except openai.APIStatusError as error:
            raise self._meaning(error) from error
        except openai.APIConnectionError as error:
            raise Trouble(f"the connection failed ({error.__cause__ or error})", is_unreachable=True) from error
        except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise Trouble("the server's answer is no JSON") from error

    def model(self, name: str | None) -> str:
        """The model to ask: the named one, or the only one there.

        Raises: InputError if the server does not answer, or has another model or several.
        """
        names = self.check()
        if name is not None and (name in names or not names):
            return name
        if name is None and len(names) == 1:
            return names[0]
        known = ", ".join(names) or "unknown"
        raise InputError(f"The server at {self.place} does not serve {name!r}; choose --model from: {known}.")

    def check(self) -> list[str]:
        """The names of the models served, none where the server does not list them.

        Raises: InputError if it does not answer, or refuses the key.
        """
        import openai

        try:
            return [item.id for item in self._probe().models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._wrong_key() from error
        except openai.APIConnectionError as error:
            raise InputError(
                f"The judge's server at {self.place} does not answer ({error.__cause__ or error}); start it or mend "
                "--base-url. Answers that came are kept: the same line goes on."
            ) from error
        except (openai.APIError, ValueError, TypeError, AttributeError):
            return []

    def version(self) -> str | None:
        """What vLLM says at /version; None from other servers."""
        import openai

        parts = urlsplit(self.base_url)
        try:
            found: Any = self._probe().get(f"{parts.scheme}://{parts.netloc}/version", cast_to=dict[str, Any])
            return str(found["version"])
        except (openai.OpenAIError, ValueError, TypeError, KeyError):
            return None

    def _probe(self) -> OpenAI:
        from openai import OpenAI

        return OpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=1, timeout=_PROBE_TIMEOUT_S)

    def _meaning(self, error: Any) -> Exception:
        """What a status says."""
        reason = f"HTTP {error.status_code}: {_message(error)}"
        if error.status_code in (401, 403):
            return self._wrong_key()
        if error.status_code == 404:
            return InputError(f"The server at {self.place} does not know this model or path ({reason}).")
        if error.status_code in _OVERLOAD:
            return Trouble(reason, retry_after_s=_retry_after_s(error.response.headers), is_overload=True)
        if error.status_code in _TRANSIENT or error.status_code >= 500:
            return Trouble(reason, retry_after_s=_retry_after_s(error.response.headers))
        return Refused(reason)

    def _wrong_key(self) -> InputError:
        return InputError(f"The server at {self.place} refuses the key; set OPENAI_API_KEY to one that it takes.")


def open_endpoint(base_url: str | None, api_key: str | None, timeout_s: float) -> Endpoint:
    """From the options, else from the environment.

    Raises: InputError without an address, or if it is none; MissingExtra without the client's package.
    """
    try:
        import openai  # noqa: F401 # where it is used, it is imported again
        import tenacity  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "The judge 'openai' needs the packages openai and tenacity; install them: pip install \"alignvid[judge]\"."
        ) from error
    address = base_url or os.environ.get("OPENAI_BASE_URL")
    if not address:
        raise InputError("The judge 'openai' needs --base-url (or OPENAI_BASE_URL), such as http://127.0.0.1:8000/v1.")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--base-url {address!r} is no address; give one such as http://127.0.0.1:8000/v1.")
    return Endpoint(address, api_key or os.environ.get("OPENAI_API_KEY") or _NO_KEY, timeout_s)


def _retry_after_s(headers: Any) -> float:
    try:
        return max(float(headers.get("retry-after", "0")), 0.0)
    except ValueError:  # a date; the backoff does
        return 0.0


def _message(error: Any) -> str:
    """The server's own words, shortened."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", body)
    text = str(inner.get("message", "") if isinstance(inner, dict) else inner) or str(error)
    return " ".join(text.split())[:200]
