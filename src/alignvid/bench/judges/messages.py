"""What is sent to an OpenAI-compatible server, and what of its answer is used."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, Literal

from PIL import Image

from alignvid.bench.judges import asking
from alignvid.bench.judges.base import Reply
from alignvid.bench.judges.frames import ShownFrames

Send = Literal["video", "images"]
_PNG_EFFORT = 1  # lossless at any effort; more takes longer than sending


class Nonsense(Exception):
    """The server's answer has not the form of one; another attempt may."""


class Useless(Exception):
    """The server's answer has the form of one and holds no reply, however often it is asked; the reason is the text."""


class ErrorBody(Exception):
    """An error under status 200."""

    def __init__(self, reason: str, status: int | None) -> None:
        """The server's words, and the status that it means, where it says one."""
        super().__init__(reason)
        self.status = status


class NoLogProbabilities(Exception):
    """The server answers, but does not say how likely its tokens were."""


def body(*, model: str, protocol: str, shown: list[dict[str, Any]], times: dict[str, Any], text: str) -> dict[str, Any]:
    """The arguments of one chat completion."""
    logit = {"logprobs": True, "top_logprobs": asking.TOP_TOKENS} if protocol == "logit" else {}
    return {
        "model": model,
        "messages": [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}],
        "temperature": 0,
        "max_tokens": asking.MAX_TOKENS[protocol],
        "extra_body": {**times, **without_thinking(model)},
        **logit,
    }


def without_thinking(model: str) -> dict[str, Any]:
    """Arguments of vLLM for a model, by its name, that would think before it answers; none for another."""
    name = "".join(letter for letter in model.lower() if letter.isalnum())
    return {"chat_template_kwargs": {"enable_thinking": False}} if "qwen35" in name else {}


def content(shown: ShownFrames, send: Send) -> list[dict[str, Any]]:
    """The frames, lossless, as parts of a message: one video, or an image each."""
    pictures = [_png(frame) for frame in shown.frames]
    if send == "images":
        return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{item}"}} for item in pictures]
    # vLLM's name for a list of frames is video/jpeg; it looks at the bytes, and takes PNG
    return [{"type": "video_url", "video_url": {"url": "data:video/jpeg;base64," + ",".join(pictures)}}]


def frame_times(shown: ShownFrames, send: Send) -> dict[str, Any]:
    """Arguments of vLLM for a video of given frames: all of them, at these times."""
    if send == "images":
        return {}
    times = {
        "num_frames": -1,
        "fps": shown.fps,
        "frames_indices": shown.indices,
        "total_num_frames": shown.total,
        "duration": shown.total / shown.fps,
    }
    return {"media_io_kwargs": {"video": times}}


def reply_of(completion: Any, protocol: str) -> Reply:
    """The reply in a chat completion.

    Raises: Nonsense if it has not the form of one; ErrorBody if it is an error; Useless if it holds no text, and says
    why; NoLogProbabilities if protocol "logit" cannot be read from it.
    """
    _refuse_error(completion)
    choices = _part(completion, "choices")
    if not isinstance(choices, list) or not choices:
        raise Nonsense
    choice = choices[0]
    _refuse_error(choice)
    message = _part(choice, "message")
    text = _text(_part(message, "content"))
    if not text and (reason := _why_no_text(choice, message)):
        raise Useless(reason)
    if text is None:
        raise Nonsense
    if protocol == "paper":
        return asking.text_reply(text)
    return asking.logit_reply(text, _likeliest(choice))


def _likeliest(choice: Any) -> list[tuple[str | None, float]]:
    """The likeliest first tokens; NaN is the log-probability of one that has none."""
    try:
        found = [(item.token, item.logprob) for item in choice.logprobs.content[0].top_logprobs]
    except (AttributeError, IndexError, TypeError) as error:
        raise NoLogProbabilities from error
    if not found:
        raise NoLogProbabilities
    return [
        (token if isinstance(token, str) else None, float(value) if isinstance(value, int | float) else math.nan)
        for token, value in found
    ]


def _text(content: Any) -> str | None:
    """A message's text, which may come in parts; None without any."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part if isinstance(part, str) else _part(part, "text") for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else None


def _why_no_text(choice: Any, message: Any) -> str | None:
    """What a model did in place of answering, if the server says so."""
    content = _part(message, "content")
    refusals = [_part(part, "refusal") for part in (message, *(content if isinstance(content, list) else ()))]
    if said := [refusal for refusal in refusals if refusal]:
        return f"the model refused: {shortened(said[0])}"
    finish = _part(choice, "finish_reason")
    calls = _part(message, "tool_calls") or _part(message, "function_call")
    if calls or finish in ("tool_calls", "function_call"):
        return "the model called a tool and gave no answer; serve it without tools"
    if finish == "content_filter":
        return "the server's content filter kept the answer back"
    has_thought = bool(_part(message, "reasoning_content") or _part(message, "reasoning"))
    if finish == "length":
        did = "thought until the limit of tokens" if has_thought else "reached the limit of tokens"
        return f"the model {did} and gave no answer; serve it without thinking"
    return "the model thought and gave no answer; serve it without thinking" if has_thought else None


def _refuse_error(answer: Any) -> None:
    """Raise an error body as one: {"error": …}, {"object": "error", …} or {"detail": …}, without choices."""
    is_error = _part(answer, "object") == "error"
    found = _part(answer, "error") or _part(answer, "detail") or (answer if is_error else None)
    if found and not _part(answer, "choices"):
        message = _part(found, "message") or (found if isinstance(found, str) else None)
        raise ErrorBody(
            shortened(message or "no reason given"), _status(_part(found, "code") or _part(found, "status"))
        )


def _status(code: Any) -> int | None:
    """A code that is an HTTP status; others are names or the server's own numbers."""
    text = str(code)
    return int(text) if len(text) == 3 and text.isdecimal() and text.isascii() and text >= "400" else None


def _part(value: Any, name: str) -> Any:
    """A field of an answer, which the client makes an object of if it knows it, else leaves as a dict."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def shortened(text: Any) -> str:
    """A server's own words in one line."""
    return " ".join(str(text).split())[:200]


def _png(frame: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", compress_level=_PNG_EFFORT)
    return base64.b64encode(buffer.getvalue()).decode()
