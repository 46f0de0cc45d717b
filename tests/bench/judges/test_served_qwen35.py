"""Qwen3.5 behind an address, against the same in this process: tiny random weights, each by code of its own.

What serves it is transformers' `generate`, fed with nothing but what came over the wire. A real vLLM is asked by
`make test-vllm`.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from alignvid.bench.judges import JudgeOptions, asking, frames, open_judge
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.verdicts import Verdict
from rendered_runs import rendered_run
from stub_server import Exchange, stub_server
from tiny_qwen import make_qwen_3_5

WITHIN = 1e-5
"""Of a probability: one forward over everything, against a video that is seen once and kept."""


class Served:
    """A model as a server has it: chat template, processor, `generate`."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.processor: Any = transformers.AutoProcessor.from_pretrained(folder)
        self.model: Any = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
        self.turn, self.template = threading.Lock(), []

    def answer(self, exchange: Exchange) -> None:
        with self.turn, torch.inference_mode():
            said, top = self._generated(exchange)
        exchange.say(said, top)

    def _generated(self, exchange: Exchange) -> tuple[str, list[tuple[str, float]]]:
        self.template.append(exchange.body["chat_template_kwargs"])
        content = [{"type": "video"}, {"type": "text", "text": exchange.question}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **self.template[-1]
        )
        times = exchange.body["media_io_kwargs"]["video"]
        made = self.processor(
            text=[text],
            videos=[torch.stack([torch.tensor(frame) for frame in exchange.frames]).permute(0, 3, 1, 2)],
            video_metadata=[{name: times[name] for name in ("fps", "total_num_frames", "frames_indices")}],
            do_sample_frames=False,
            do_resize=False,
            return_tensors="pt",
        )
        how = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        out = self.model.generate(**made, max_new_tokens=exchange.body["max_tokens"], **how)
        found = out.logits[0][0].log_softmax(-1).topk(asking.TOP_TOKENS)
        decode = self.processor.tokenizer.decode
        top = [(decode([token]), value) for token, value in zip(found.indices, found.values.tolist(), strict=True)]
        return decode(out.sequences[0, made["input_ids"].shape[1] :], skip_special_tokens=True), top


KINDS = {"Qwen3_5ForConditionalGeneration": False, "Qwen3_5MoeForConditionalGeneration": True}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if is_moe else ()) for kind, is_moe in KINDS.items()]
)
def test_in_process_and_served_they_answer_alike_in_both_protocols(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(asking.MAX_TOKENS, "paper", 6)
    monkeypatch.setattr(frames, "_MIN_TOKENS", 4)
    monkeypatch.setattr(asking, "TOP_TOKENS", 400)  # random weights hold neither word for likely
    folder = make_qwen_3_5(tmp_path / "Tiny-Qwen3.5", is_moe=KINDS[kind])
    run, served = rendered_run(tmp_path / "run", samples=1), Served(folder, kind)
    with stub_server(served.answer, models=("Tiny-Qwen3.5",)) as (_, address):
        for protocol in asking.PROTOCOLS:
            for name, options in {"transformers": {"model": str(folder)}, "openai": {"base_url": address}}.items():
                judge = open_judge(name, JudgeOptions(protocol=protocol, **options))
                tally = judge_run(run, judge, limit=None, on_answer=lambda row, count: None)
                assert tally.verdicts[Verdict.FAILED] == 0

    answers = {(row.judge.partition(":")[0], row.protocol, row.job, row.question): row for row in run.answers()}
    here = {place[1:]: row for place, row in answers.items() if place[0] == "transformers"}
    there = {place[1:]: row for place, row in answers.items() if place[0] == "openai"}
    assert here.keys() == there.keys() and len(here) >= 2 * 2 * 2
    for place, row in here.items():
        assert (there[place].verdict, there[place].reply) == (row.verdict, row.reply)
        if row.p_yes is not None:
            assert math.isclose(there[place].p_yes, row.p_yes, abs_tol=WITHIN)
    assert any(row.p_yes is not None for row in here.values())
    assert served.template and all(asked == {"enable_thinking": False} for asked in served.template)
    assert [row.values.get("thinking") for row in run.judges()] == [False] * 4
