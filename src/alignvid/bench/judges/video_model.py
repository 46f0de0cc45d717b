"""A vision-language model in this process that watches a video once and is asked several questions about it.

The video comes before the question, so its attention keys and values are computed once and kept. Positions are given
to every forward: what a version of transformers would choose does not matter.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, ProcessorMixin, RepetitionPenaltyLogitsProcessor

from alignvid.bench.judges import positions
from alignvid.bench.judges.frames import ShownFrames

_MARK = "QUESTION"  # stands for the question while the chat template is filled


@dataclass(frozen=True)
class Watched:
    """A video that the model has seen."""

    tokens: Int[Tensor, " token"]
    """Of the prompt up to the end of the video."""
    cache: DynamicCache
    """Grows while a question is answered, and is cut back afterwards."""
    next_position: int


class Inputs(NamedTuple):
    """The prompt up to the end of a video, for the first forward."""

    tokens: Int[Tensor, " token"]
    positions: Int[Tensor, "3 token"]
    pixels: dict[str, Tensor]


class VideoModel:
    """Qwen2.5-VL, Qwen3-VL or Qwen3.5 with its processor."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        """A loaded model, in evaluation mode."""
        self.model, self.processor = model, processor
        self.counts_as_published = model.config.model_type == "qwen2_5_vl"
        """Whether positions follow transformers 4.50.1; else they are the model's own."""
        self.may_think = False if model.config.model_type.startswith("qwen3_5") else None
        """Whether the chat's template lets the model think first; None where it knows no such thing. A first token
        that is to be yes or no cannot be a thought."""
        generation: Any = model.generation_config
        ends = generation.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self.repetition_penalty = float(generation.repetition_penalty or 1.0)

    @torch.inference_mode()
    def watch(self, shown: ShownFrames) -> Watched:
        """See a video, up to the place where the question begins."""
        inputs = self.inputs(shown)
        cache = DynamicCache(config=self.model.config)
        self._forward(inputs.tokens, inputs.positions, cache, **inputs.pixels)
        return Watched(inputs.tokens, cache, int(inputs.positions.max()) + 1)

    @torch.inference_mode()
    def likeliest(self, watched: Watched, question: str, count: int) -> list[tuple[str, float]]:
        """The likeliest first tokens of a reply, as text, with their log-probabilities."""
        with _lent(watched.cache) as cache:
            logits = self._ask(watched, cache, self.question_tokens(question))
        found = logits.log_softmax(-1).topk(min(count, len(logits)))
        texts = [self._text([token]) for token in found.indices.tolist()]
        return list(zip(texts, found.values.tolist(), strict=True))

    @torch.inference_mode()
    def reply(self, watched: Watched, question: str, max_tokens: int) -> str:
        """The likeliest token, again and again."""
        tokens = self.question_tokens(question)
        seen = torch.cat((watched.tokens, tokens))
        position = watched.next_position + len(tokens)
        said: list[int] = []
        with _lent(watched.cache) as cache:
            logits = self._ask(watched, cache, tokens)
            while len(said) < max_tokens:
                token = self._likeliest_token(seen, logits)
                if token in self._ends:
                    break
                said.append(token)
                new = torch.tensor([token])
                seen = torch.cat((seen, new))
                logits = self._forward(new, _text_positions(position, 1), cache)
                position += 1
        return self._text(said)

    def inputs(self, shown: ShownFrames) -> Inputs:
        """Everything up to the end of the video."""
        head, _ = self._around_question()
        frames = torch.from_numpy(shown.frames).permute(0, 3, 1, 2)  # -> (frame, channel, height, width)
        times = {"fps": shown.fps, "total_num_frames": shown.total, "frames_indices": shown.indices}
        processor: Any = self.processor
        made = processor(
            text=[head],
            videos=[frames],
            video_metadata=[times],
            do_sample_frames=False,
            do_resize=False,
            return_tensors="pt",
        )
        pixels = {name: made[name] for name in ("pixel_values_videos", "video_grid_thw")}
        return Inputs(made["input_ids"][0], self._video_positions(made), pixels)

    def question_tokens(self, question: str) -> Int[Tensor, " token"]:
        """What follows the video."""
        _, tail = self._around_question()
        tokenizer: Any = self.processor.tokenizer  # type: ignore[attr-defined] # every processor with text has one
        return torch.tensor(tokenizer(question + tail, add_special_tokens=False)["input_ids"])

    def _ask(
        self, watched: Watched, cache: DynamicCache, tokens: Int[Tensor, " token"]
    ) -> Float[Tensor, " vocabulary"]:
        return self._forward(tokens, _text_positions(watched.next_position, len(tokens)), cache)

    def _forward(
        self, tokens: Tensor, token_positions: Tensor, cache: DynamicCache, **pixels: Tensor
    ) -> Float[Tensor, " vocabulary"]:
        device = self.model.device
        made = self.model(
            input_ids=tokens[None].to(device),
            position_ids=token_positions[:, None].to(device),  # -> (3, batch, token)
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **{name: value.to(device) for name, value in pixels.items()},
        )
        return made.logits[0, -1].float().cpu()

    def _video_positions(self, made: Any) -> Int[Tensor, "3 token"]:
        config: Any = self.model.config
        if self.counts_as_published:
            return positions.video_positions(
                made["input_ids"][0],
                video_token=config.video_token_id,
                grid=tuple(made["video_grid_thw"][0].tolist()),
                seconds_per_grid=float(made["second_per_grid_ts"][0]),
                merged=config.vision_config.spatial_merge_size,
                positions_per_second=config.vision_config.tokens_per_second,
            )
        names = ("input_ids", "mm_token_type_ids", "video_grid_thw")
        inner: Any = self.model.model
        return inner.get_rope_index(**{name: made[name] for name in names})[0][:, 0]

    def _around_question(self) -> tuple[str, str]:
        """The filled chat template before and after the question."""
        content = [{"type": "video"}, {"type": "text", "text": _MARK}]
        processor: Any = self.processor
        thinking = {} if self.may_think is None else {"enable_thinking": self.may_think}
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **thinking
        )
        head, _, tail = text.partition(_MARK)
        return head, tail

    def _likeliest_token(self, seen: Tensor, logits: Tensor) -> int:
        if self.repetition_penalty != 1.0:
            penalise: Any = RepetitionPenaltyLogitsProcessor(self.repetition_penalty)
            logits = penalise(seen[None], logits[None])[0]
        return int(logits.argmax())

    def _text(self, tokens: list[int]) -> str:
        tokenizer: Any = self.processor.tokenizer  # type: ignore[attr-defined] # every processor with text has one
        return tokenizer.decode(tokens, skip_special_tokens=True)


@contextlib.contextmanager
def _lent(cache: DynamicCache) -> Iterator[DynamicCache]:
    """A cache for one question: itself, cut back afterwards; or a copy, where linear attention cannot go back."""
    if not all(layer.is_croppable for layer in cache.layers):
        yield copy.deepcopy(cache)
        return
    length = cache.get_seq_length()
    try:
        yield cache
    finally:
        cache.crop(length - cache.get_seq_length())  # a negative number: so many tokens less


def _text_positions(first: int, count: int) -> Int[Tensor, "3 token"]:
    return torch.arange(first, first + count).expand(3, -1)
