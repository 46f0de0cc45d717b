"""Two processes of one model by gloo on the CPU: diffusers' context parallelism (Ulysses), or torch's FSDP2.

diffusers 0.42.1 numbers the device of a process by `rank % torch.accelerator.device_count()`, which on a machine
without an accelerator is a division by zero. That number is the only thing put in here; it names no device on a CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from diffusers import ContextParallelConfig, DiffusionPipeline
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn

from alignvid import Recipe

PROCESSES = 2


class Case(NamedTuple):
    """A pipeline, a recipe for it, when it is attached, and what the processes divide between them."""

    pipeline: str
    """Name of a tiny pipeline."""
    recipe: Recipe
    is_attached_first: bool
    divide: Callable[[DiffusionPipeline], None]


def run_in_two(cases: dict[str, Case], folder: Path) -> dict[str, dict[str, Any]]:
    """What the first process found on each case."""
    environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_OFFLINE": "1"}
    with patch.dict(os.environ, environment):
        spawn(_work, args=(cases, str(folder)), nprocs=PROCESSES)
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def split_tokens(pipe: DiffusionPipeline) -> None:
    """Let each process hold a part of every sequence."""
    with patch.object(torch.accelerator, "device_count", lambda: PROCESSES):
        pipe.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=PROCESSES))


def split_weights(pipe: DiffusionPipeline) -> None:
    """Let each process keep a part of every weight, and fetch the others block by block."""
    for block in pipe.transformer.blocks:
        fully_shard(block, mesh=init_device_mesh("cpu", (PROCESSES,)))
    fully_shard(pipe.transformer, mesh=init_device_mesh("cpu", (PROCESSES,)))


def _work(rank: int, cases: dict[str, Case], folder: str) -> None:
    import torchvision_beside_cpu_torch  # noqa: F401  # before anything imports torchvision

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES, init_method=f"file://{folder}/store")
    found = {words: _found(case) for words, case in cases.items()}
    if rank == 0:
        Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


def _found(case: Case) -> dict[str, Any]:
    """Largest differences between one process and two; with the reason, if alignvid refused two."""
    import alignvid
    from pipelines import generate
    from registry import BUILDERS

    pipe, call = BUILDERS[case.pipeline]()
    call = call | {"num_inference_steps": 2}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, case.recipe):
        modulated = generate(pipe, call)
    steps: list[Callable[[], Any]] = [lambda: alignvid.attach(pipe, case.recipe), lambda: case.divide(pipe)]
    found: dict[str, Any] = {"effect": _largest(plain, modulated)}
    try:
        for step in steps if case.is_attached_first else reversed(steps):
            step()
        found["difference"] = _largest(generate(pipe, call), modulated)
    except alignvid.errors.AttachmentError as error:
        found["refusal"] = str(error)
    alignvid.detach(pipe)
    return found | {"difference after detaching": _largest(generate(pipe, call), plain)}


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
