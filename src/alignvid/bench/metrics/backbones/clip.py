"""OpenAI's CLIP, the image side, through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignvid.bench.metrics.pixels import Encode
from alignvid.bench.metrics.weights import pretrained
from alignvid.errors import InputError

_ACTIVATION = "quick_gelu"


def load_clip(path: Path, device: str) -> Encode:
    """Image features from a folder of CLIP, whole or its image side alone; float32.

    Raises: InputError if the folder holds no CLIP, or one with another activation than OpenAI's.
    """
    from transformers import CLIPVisionModelWithProjection

    model = pretrained(CLIPVisionModelWithProjection.from_pretrained, path, config=_config(path)).float().to(device)
    if model.config.hidden_act != _ACTIVATION:
        raise InputError(
            f"The CLIP in {str(path)!r} has the activation {model.config.hidden_act!r}, OpenAI's has {_ACTIVATION!r}; "
            "give OpenAI's."
        )
    return lambda pixels: model(pixel_values=pixels).image_embeds


def _config(path: Path) -> Any:
    """The image side's configuration. Of a whole CLIP, only the upper one is sure to say how wide the features are."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"CLIP {str(path)!r} cannot be loaded ({reason}); give a folder of transformers.") from error
    if config.model_type != "clip":
        return config
    return type(config.vision_config).from_dict(
        {**config.vision_config.to_dict(), "projection_dim": config.projection_dim}
    )
