"""The foreground by SAM 2 (transformers' `Sam2Model`): the object that lies in the middle of a picture.

Its prompt is a point in the centre and a box that leaves out a twentieth at each side; of the masks that it offers, the
one that it trusts most is taken. The picture is prepared here as SAM 2's own processor does it, within a grey level
(stretched to the model's square, ImageNet's mean and deviation), because that processor needs torchvision and alignvid
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from alignvid.calibration.grabcut import MARGIN
from alignvid.errors import InputError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True)
class Sam2:
    """A loaded model."""

    model: Any

    @classmethod
    def load(cls, name: str, device: str) -> Sam2:
        """From a folder or the Hugging Face Hub: safetensors only, no code of the model's.

        Raises: InputError if it cannot be loaded.
        """
        from safetensors import SafetensorError
        from transformers import AutoConfig, Sam2Model

        try:
            kind = AutoConfig.from_pretrained(name).model_type
            if kind not in ("sam2", "sam2_video"):
                raise InputError(f"{name!r} is a {kind} model, not SAM 2; give --sam2 facebook/sam2.1-hiera-large.")
            model: Any = Sam2Model.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"SAM 2 cannot be loaded from {name!r}: {reason or type(error).__name__} Give a folder or an id on the "
                "Hugging Face Hub such as 'facebook/sam2.1-hiera-large', or another --foreground."
            ) from error
        return cls(model.eval().to(device))

    @torch.no_grad()
    def mask_of(self, image: Image.Image) -> Bool[np.ndarray, "height width"]:
        """Which pixels belong to the object in the middle."""
        side = self.model.config.prompt_encoder_config.image_size
        low, high = MARGIN * side, (1 - MARGIN) * side
        device = self.model.device
        output = self.model(
            pixel_values=prepared(image, side).to(device),
            input_points=torch.tensor([[[[side / 2, side / 2]]]], device=device),
            input_labels=torch.ones(1, 1, 1, dtype=torch.int32, device=device),
            input_boxes=torch.tensor([[[low, low, high, high]]], device=device),
            multimask_output=True,
        )
        best = output.iou_scores[0, 0].argmax()
        logits = F.interpolate(output.pred_masks[:, 0, best, None], size=image.size[::-1], mode="bilinear")
        return (logits[0, 0] > 0).cpu().numpy()


def prepared(image: Image.Image, side: int) -> Float[Tensor, "1 3 side side"]:
    """A picture as SAM 2 takes it."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).unsqueeze(0).float()
    pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True).round() / 255
    mean, deviation = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_DEVIATION).view(3, 1, 1)
    return (pixels - mean) / deviation
