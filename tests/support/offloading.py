"""The four ways in which diffusers and accelerate offload a pipeline, on a machine without an accelerator."""

from __future__ import annotations

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading

CPU = torch.device("cpu")


def in_groups_of_leaves(pipe: DiffusionPipeline) -> None:
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")


def in_groups_of_blocks(pipe: DiffusionPipeline) -> None:
    groups = {"offload_type": "block_level", "num_blocks_per_group": 1}
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, **groups)


def sequentially(pipe: DiffusionPipeline) -> None:
    """As `enable_sequential_cpu_offload`, which itself refuses a machine without an accelerator."""
    for component in (pipe.vae, pipe.transformer):  # SigLIP's attention pooling cannot be offloaded
        cpu_offload(component, execution_device=CPU)


def as_a_whole(pipe: DiffusionPipeline) -> None:
    """As `enable_model_cpu_offload`, which refuses such a machine too."""
    cpu_offload_with_hook(pipe.transformer, execution_device=CPU)
