"""LoRA weights over a pipeline, such as those that make a model sample in four steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignvid.errors import InputError
from alignvid.files import user_path

SECOND_TRANSFORMER = "transformer_2="
"""Before a LoRA that is for a pipeline's second transformer: Wan 2.2's low-noise expert."""


def load_loras(pipeline: Any, loras: Sequence[str]) -> None:
    """Load each of them, at full weight, in this order.

    Raises: InputError naming the LoRA that does not fit the pipeline, or cannot be read.
    """
    from safetensors import SafetensorError

    for lora in loras:
        options: dict[str, Any] = {}
        if lora.startswith(SECOND_TRANSFORMER):
            options["load_into_transformer_2"] = True
        name = lora.removeprefix(SECOND_TRANSFORMER)
        if not hasattr(pipeline, "load_lora_weights"):
            raise InputError(f"{type(pipeline).__name__} takes no LoRA, but {lora!r} was given; leave it out.")
        file = user_path(name)
        if file.is_file():
            name, options["weight_name"] = str(file.parent), file.name
        try:
            pipeline.load_lora_weights(name, use_safetensors=True, **options)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"The LoRA {lora!r} cannot be loaded: {reason or type(error).__name__}. Give a .safetensors file that "
                f"was made for {type(pipeline).__name__}."
            ) from error
