"""An OpenAI-compatible server: where it is, what it serves, and what its errors mean."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alignvid.bench.judges.address import (
    EXAMPLE,
    checked_address,
    is_loopback,
    notes,
    place,
    proxy_note,
    proxy_variable,
)
from alignvid.errors import InputError, MissingExtra, pass_on_interrupt

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_NO_KEY = "none"  # most local servers ask for no key, the client does
_PROBE_TIMEOUT_S = 10.0
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OVERLOAD = (429, 503, 529)
_TRANSIENT = (408, 409)
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What the client raises on an answer that is no JSON, or JSON of another form."""


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
        return place(self.base_url)

    def client(self) -> AsyncOpenAI:
        """A client for the requests of one pass. Raises: InputError if the environment does not allow one."""
        from openai import AsyncOpenAI

        with self._client_as_input_error():
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
            reason = f"HTTP {error.status_code}: {_message(error)}"
            wait_s = retry_after_s(error.response.headers.get("retry-after"))
            raise self.meaning(error.status_code, reason, wait_s) from error
        except openai.APIConnectionError as error:
            raise Trouble(f"the connection failed ({error.__cause__ or error})", is_unreachable=True) from error
        except (openai.APIError, *_UNREADABLE) as error:
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
        if not names:
            raise InputError(f"The server at {self.place} does not list its models; give --model.{self._notes}")
        serves = f"does not serve {name!r}" if name is not None else "serves several models"
        raise InputError(f"The server at {self.place} {serves}; choose --model from: {', '.join(names)}.")

    def check(self) -> list[str]:
        """The names of the models served, none where the server does not list them.

        Raises: InputError if it does not answer, or refuses the key.
        """
        import openai

        probe = self._probe()
        try:
            names = [getattr(item, "id", None) for item in probe.models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._wrong_key() from error
        except openai.APIConnectionError as error:
            raise InputError(
                f"The judge's server at {self.place} does not answer ({error.__cause__ or error}); start it or mend "
                f"--base-url. To resume, repeat the command: answers that came are kept.{proxy_note(self.base_url)}"
            ) from error
        except (openai.APIError, *_UNREADABLE) as error:
            if is_loopback(self.base_url) and proxy_variable(self.base_url):
                raise InputError(f"The server at {self.place} does not list its models.{self._notes}") from error
            return []
        return [name for name in names if isinstance(name, str) and name]

    def version(self) -> str | None:
        """What vLLM says at /version; None from other servers."""
        import openai

        parts, probe = urlsplit(self.base_url), self._probe()
        try:
            found: Any = probe.get(f"{parts.scheme}://{parts.netloc}/version", cast_to=dict[str, Any])
            return str(found["version"])
        except (openai.OpenAIError, *_UNREADABLE):
            return None

    def meaning(self, status: int | None, reason: str, wait_s: float = 0.0) -> Exception:
        """What a status says; None is an error without one."""
        if status in (401, 403):
            return self._wrong_key()
        if status == 404:
            return InputError(
                f"The server at {self.place} does not know this model or path ({reason.rstrip('.')}).{self._notes}"
            )
        if status in _OVERLOAD:
            return Trouble(reason, retry_after_s=wait_s, is_overload=True)
        if status is not None and (status in _TRANSIENT or status >= 500):
            return Trouble(reason, retry_after_s=wait_s)
        return Refused(reason)

    @property
    def _notes(self) -> str:
        return notes(self.base_url)

    def _probe(self) -> OpenAI:
        from openai import OpenAI

        with self._client_as_input_error():
            return OpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=1, timeout=_PROBE_TIMEOUT_S)

    @contextlib.contextmanager
    def _client_as_input_error(self) -> Iterator[None]:
        """A client reads the variables for proxies and certificates when it is made, and raises what it likes."""
        try:
            yield
        except ImportError as error:
            variable = proxy_variable(self.base_url) or "the environment"
            raise MissingExtra(
                f"The proxy of {variable} needs a package that is not installed ({_line(error)}); install it: pip "
                f"install socksio, or unset the variable."
            ) from error
        except OSError as error:
            files = (f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name))
            raise InputError(
                f"The certificates of {next(files, 'this system')} cannot be read ({_line(error)}); mend or "
                "unset the variable."
            ) from error
        except Exception as error:
            pass_on_interrupt(error)
            raise InputError(
                f"The server at {self.place} cannot be asked ({_line(error)}); mend --base-url or the variables of "
                "the proxy, such as HTTP_PROXY."
            ) from error

    def _wrong_key(self) -> InputError:
        return InputError(
            f"The server at {self.place} refuses the key; set OPENAI_API_KEY to one that it takes."
            f"{proxy_note(self.base_url)}"
        )


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
        raise InputError(f"The judge 'openai' needs --base-url (or OPENAI_BASE_URL), such as {EXAMPLE}.")
    key = (api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError("OPENAI_API_KEY holds characters that no key has; set it again, without line breaks.")
    return Endpoint(checked_address(address), key or _NO_KEY, timeout_s)


def retry_after_s(value: str | None) -> float:
    """How long a server asks to wait, in seconds or until a date; 0 where it does not say."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            date = parsedate_to_datetime(str(value))
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _message(error: Any) -> str:
    """The server's own words, shortened."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", body)
    text = str(inner.get("message", "") if isinstance(inner, dict) else inner) or str(error)
    return " ".join(text.split())[:200]
