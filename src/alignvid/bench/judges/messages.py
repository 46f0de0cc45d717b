"""What is sent to an OpenAI-compatible server, and what of its answer is used."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

from PIL import Image

from alignvid.bench.judges import asking
from alignvid.bench.judges.base import Reply
from alignvid.bench.judges.frames import ShownFrames

Send = Literal["video", "images"]
_PNG_EFFORT = 1  # lossless at any effort; more takes longer than sending


class Nonsense(Exception):
    """The server's answer has not the form of one."""


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
        "extra_body": times,
        **logit,
    }


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

    Raises: Nonsense if it holds none; NoLogProbabilities if protocol "logit" cannot be read from it.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise Nonsense from error
    if not isinstance(text, str):
        raise Nonsense
    if protocol == "paper":
        return asking.text_reply(text)
    try:
        top = [(item.token, float(item.logprob)) for item in choice.logprobs.content[0].top_logprobs]
    except (AttributeError, IndexError, TypeError) as error:
        raise NoLogProbabilities from error
    return asking.logit_reply(text, top)


def _png(frame: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", compress_level=_PNG_EFFORT)
    return base64.b64encode(buffer.getvalue()).decode()
