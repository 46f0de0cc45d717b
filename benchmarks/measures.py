"""What looking into attention costs: the measures against the dense computation, and observing against not observing.

Time is the thread's own processor time, so that other programs on the machine do not count; the two sides take turns
in one process. Memory is the peak resident size of a process of its own, beyond the size before the call.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import alignvid
from alignvid.analysis.measures import attention_measures
from alignvid.analysis.observe import observe
from alignvid.miniature import load_pipeline
from overhead import Row

SPEED_TOKENS, MEMORY_TOKENS = 8192, 16384
SHAPES = ((4, 32), (4, 64), (2, 128))  # heads, size of a head; the miniature has 24, large models 128
DENSE_REPEATS, FAST_REPEATS = 2, 5
RUNS, STEPS = 4, 20


def rows() -> list[Row]:
    """All of it, in about three minutes."""
    return [*speed_rows(), memory_row(), *observing_rows()]


def dense(query: Tensor, key: Tensor, half: int) -> dict[str, Tensor]:
    """The same measures from the whole matrix, as one would write them without a thought for memory."""
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = logits.softmax(-1)
    deviation = logits - (weights * logits).sum(-1, keepdim=True)
    variance = (weights * deviation**2).sum(-1)
    return {
        "entropy": -torch.special.xlogy(weights, weights).sum(-1),
        "variance": variance,
        "slope": -variance,
        "energy": logits.mean(-1),
        "log_sum_exp": logits.logsumexp(-1),
        "mass": torch.stack([weights[..., :half].sum(-1), weights[..., half:].sum(-1)], -1),
    }


def fused_entropy(query: Tensor, key: Tensor) -> Tensor:
    """Entropy as LSE − q·E_p[k]/√d, from one fused attention with V := K."""
    mean_key, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, key)
    return log_sum_exp - (query * mean_key).sum(-1) / query.shape[-1] ** 0.5


def speed_rows() -> list[Row]:
    made = []
    for heads, size in SHAPES:
        query, key = pair(heads, SPEED_TOKENS, size)
        half = SPEED_TOKENS // 2
        slow, fast, fused = [], [], []
        for _ in range(DENSE_REPEATS):
            seconds, expected = timed(lambda: dense(query, key, half))  # noqa: B023  # run at once
            slow.append(seconds)
            for _ in range(FAST_REPEATS):
                seconds, measured = timed(lambda: attention_measures(query, key, stream_lengths=[half, half]))  # noqa: B023
                fast.append(seconds)
                fused.append(timed(lambda: fused_entropy(query, key))[0])  # noqa: B023
        error = max((getattr(measured, name) - value).abs().max().item() for name, value in expected.items())
        what = f"{SPEED_TOKENS} tokens, {heads} heads of {size}"
        ratio = statistics.median(slow) / statistics.median(fast)
        spread = (
            f"{statistics.median(slow):.2f} s / {statistics.median(fast):.2f} s ({min(fast):.2f} to {max(fast):.2f})"
        )
        n = f"{len(slow)} dense, {len(fast)} tiled"
        made.append(Row(f"dense / tiled, {what}", f"{ratio:.1f} x: {spread}", ">= 20 x", n))
        only = f"{statistics.median(fused) / statistics.median(fast):.2f} x"
        made.append(Row(f"one fused call, entropy alone / tiled, all measures, {what}", only, "", n))
        made.append(Row(f"largest difference, {what}", f"{error:.1e}", "<= 1e-5", f"{heads * SPEED_TOKENS} queries"))
    return made


def memory_row() -> Row:
    run = subprocess.run([sys.executable, __file__, "memory"], capture_output=True, text=True, check=True)
    extra, matrix = int(run.stdout), MEMORY_TOKENS**2 * 4
    measured = f"{extra / 2**20:.1f} MiB, {extra / matrix:.2%} of {matrix / 2**20:.0f} MiB"
    return Row(f"peak extra memory, {MEMORY_TOKENS} tokens, 1 head of 64", measured, "<= 5 %", "1")


def print_extra_memory() -> None:
    query, key = pair(1, MEMORY_TOKENS, 64)
    attention_measures(query[:, :, :64], key[:, :, :64], stream_lengths=[64])  # the library's own memory
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status_bytes("VmRSS")
    attention_measures(query, key, stream_lengths=[MEMORY_TOKENS])
    print(status_bytes("VmHWM") - before)


def observing_rows() -> list[Row]:
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    made = []
    for name, choice in (
        ("every block, every step", {}),
        ("every block, first 30 % of the steps", {"steps": (0, 0.3)}),
    ):
        ratios = [observed_ratio(pipe, choice) for _ in range(RUNS)]
        measured = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
        made.append(Row(f"miniature, {STEPS} steps: observed / not, {name}", measured, "<= 1.5 x", f"{RUNS} pairs"))
    return made


def observed_ratio(pipe: Any, choice: dict[str, Any]) -> float:
    plain, expected = timed(lambda: video(pipe))
    with observe(pipe, **choice):
        observed, made = timed(lambda: video(pipe))
    assert torch.equal(made, expected)
    return observed / plain


def video(pipe: Any) -> Tensor:
    image = Image.new("RGB", (64, 64), (200, 30, 60))
    size = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": STEPS, "output_type": "pt"}
    return pipe(image=image, prompt="add a red ball", generator=torch.Generator().manual_seed(0), **size).frames


def pair(heads: int, tokens: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, tokens, size, generator=generator) for _ in range(2))
    return query, key


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.thread_time()
    result = function()
    return time.thread_time() - begin, result


def status_bytes(field: str) -> int:
    """A size of this process, as Linux gives it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["memory"]:
        print_extra_memory()
    else:
        print(f"torch {torch.__version__}, alignvid {alignvid.__version__}, one thread")
        for row in rows():
            print(" | ".join(row))
