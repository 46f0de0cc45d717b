"""Qwen2.5-VL, Qwen3-VL and Qwen3.5 in this process, through transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvid.bench.judges import asking
from alignvid.bench.judges.base import (
    Case,
    Deliver,
    Judge,
    JudgeIdentity,
    JudgeKind,
    JudgeOptions,
    Reply,
    answer_in_turn,
)
from alignvid.bench.judges.frames import Sampling, sampling_for, shown_frames
from alignvid.errors import InputError, MissingExtra
from alignvid.media.videos import Clip, read_video

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from alignvid.bench.judges.video_model import VideoModel

_CLASSES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
}
"""`model_type` of a configuration -> class of transformers."""
_DTYPES = ("float32", "bfloat16", "float16")


class QwenJudge(Judge):
    """Watches each video once and answers its questions one after the other."""

    def __init__(self, model: VideoModel, identity: JudgeIdentity, sampling: Sampling) -> None:
        """A loaded model, and what it says about itself."""
        self.model, self.sampling = model, sampling
        self._identity = identity

    @property
    def identity(self) -> JudgeIdentity:
        """Model, versions, prompt, frames and positions."""
        return self._identity

    def answer(self, cases: Iterable[Case], deliver: Deliver) -> None:
        """One video after the other."""
        answer_in_turn(cases, deliver, self._replies)

    def write(self, shown: Clip, request: str, max_tokens: int) -> str:
        """The model's own words."""
        return self.model.reply(self.model.watch(shown_frames(shown, self.sampling)), request, max_tokens)

    def _replies(self, case: Case) -> Iterator[Reply]:
        watched = self.model.watch(shown_frames(read_video(case.video), self.sampling))
        for question in case.questions:
            text = asking.prompt(question)
            if self._identity.protocol == "logit":
                top = self.model.likeliest(watched, text, asking.TOP_TOKENS)
                yield asking.logit_reply(top[0][0], top)
            else:
                yield asking.text_reply(self.model.reply(watched, text, asking.MAX_TOKENS["paper"]))


def open_qwen(options: JudgeOptions) -> QwenJudge:
    """Load the model that the options name.

    Raises: InputError if it is not named, cannot be read or is of another kind; MissingExtra without torchvision.
    """
    if options.model is None:
        raise InputError(
            "The judge 'transformers' needs --model: a folder or a Hub id of a Qwen2.5-VL, Qwen3-VL or Qwen3.5."
        )
    _check_torchvision()
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = options.dtype or ("float32" if device == "cpu" else "bfloat16")
    if dtype not in _DTYPES:
        raise InputError(f"The dtype {dtype!r} is unknown; choose from {', '.join(_DTYPES)}.")
    from alignvid.bench.judges.video_model import VideoModel

    model, processor = _load(options.model, options.revision, device, dtype)
    video_model, sampling = VideoModel(model, processor), sampling_for(model.config.model_type)
    protocol = str(options.protocol)
    identity = JudgeIdentity(
        judge=f"transformers:{_name(options.model)}",
        protocol=protocol,
        settings={
            **asking.shared_settings(protocol, sampling),
            "positions": _positions(video_model),
            "repetition_penalty": video_model.repetition_penalty if protocol == "paper" else None,
            "model_type": model.config.model_type,
            **({} if video_model.may_think is None else {"thinking": video_model.may_think}),
            "revision": getattr(model.config, "_commit_hash", None) or options.revision,
            "weights": _weights_digest(Path(options.model)),
            "dtype": dtype,
            "device": model.device.type,
            "attention": model.config._attn_implementation,
            "versions": {name: version(name) for name in ("torch", "torchvision", "transformers")},
        },
    )
    return QwenJudge(video_model, identity, sampling)


def _load(name: str, revision: str | None, device: str, dtype: str) -> tuple[PreTrainedModel, Any]:
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, revision=revision)
        if config.model_type not in _CLASSES:
            raise InputError(
                f"{name!r} is a {config.model_type}; the judge 'transformers' knows {', '.join(_CLASSES)}. "
                "Serve others with an OpenAI-compatible server and ask them with --judge openai."
            )
        model = getattr(transformers, _CLASSES[config.model_type]).from_pretrained(
            name, revision=revision, dtype=getattr(torch, dtype), device_map=device, use_safetensors=True
        )
        return model.eval(), transformers.AutoProcessor.from_pretrained(name, revision=revision)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # not there, not reachable, no such device, no memory
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The judge's model {name!r} cannot be loaded on {device!r}: {reason}") from error


def _check_torchvision() -> None:
    try:
        import torchvision  # noqa: F401 # transformers' video processor needs it
    except ImportError as error:
        raise MissingExtra(
            "The judge 'transformers' needs torchvision; install it: pip install \"alignvid[judge]\"."
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"torchvision does not fit the installed torch ({error}); install the two from one index, see pytorch.org."
        ) from error


def _name(model: str) -> str:
    """A Hub id, or a folder's own name: where it lies is nobody's business."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _positions(model: VideoModel) -> str:
    from alignvid.bench.judges.positions import RULE

    return RULE if model.counts_as_published else f"transformers {version('transformers')}"


def _weights_digest(folder: Path) -> str | None:
    """Of a folder's configuration and of names and sizes of its weights; a Hub model has its revision."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


KIND = JudgeKind(
    name="transformers",
    protocols=asking.PROTOCOLS,
    options=frozenset({"model", "revision", "device", "dtype"}),
    open=open_qwen,
)
