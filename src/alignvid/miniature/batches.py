"""Several reference images, with a prompt and a noise seed each, in one call of the Wan pipeline.

The stock pipeline takes one image per call. This subclass leaves `__call__` alone and prepares each sample as a call
of its own would: same prompt encoding, same image tokens, same noise from its own generator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image
from torch import Tensor

from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, Video


class BatchedImageToVideo(WanImageToVideoPipeline):
    """The Wan pipeline, for a batch of images; call `generate`."""

    images: list[Image.Image]
    prompts: list[str]

    # __call__ alone calls these three. Each takes what the method that it replaces takes, named only where it is used.

    @wraps(WanImageToVideoPipeline.encode_prompt)  # who encodes a text by itself looks at what it takes
    def encode_prompt(  # type: ignore[override]  # as what it wraps, which may be given less
        self, *args: Any, num_videos_per_prompt: int | None = None, **settings: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Encode the batch's own prompts, once each, for the call that makes its videos, which says how many; and any
        text that is asked for by itself, as NAG's, as it is.
        """
        if num_videos_per_prompt is None:
            return super().encode_prompt(*args, **settings)
        return super().encode_prompt(**{**settings, "prompt": self.prompts, "num_videos_per_prompt": 1})

    def encode_image(self, image: Any, device: torch.device | None = None) -> Tensor:
        """Encode the batch's own images."""
        return super().encode_image(self.images, device)

    def prepare_latents(  # type: ignore[override]  # see above
        self, image: Tensor, batch_size: int, *settings: Any
    ) -> tuple[Tensor, Tensor]:
        """Noise and condition of each sample as a call of its own would make them."""
        *sizes, generators, latents, last_image = settings
        make: Any = super().prepare_latents
        samples = [
            make(image[index : index + 1], 1, *sizes, generators[index], latents, last_image)
            for index in range(batch_size)
        ]
        return torch.cat([noise for noise, _ in samples]), torch.cat([condition for _, condition in samples])

    def generate(
        self,
        images: list[Image.Image],
        prompts: list[str],
        noise_seeds: list[int],
        *,
        steps: int,
        guidance: float,
        after_step: Callable[..., dict[str, Any]] | None = None,
    ) -> list[Video]:
        """One clip per image, as uint8 frames. `after_step`: as the pipeline's `callback_on_step_end`."""
        self.images, self.prompts = images, prompts
        pixels = np.stack([np.asarray(image, np.float32) / 255 for image in images])
        output: Any = self(
            image=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            prompt="",  # one "prompt" with many videos; encode_prompt puts the batch's own in its place
            num_videos_per_prompt=len(images),
            height=HEIGHT,
            width=WIDTH,
            num_frames=FRAMES,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in noise_seeds],
            callback_on_step_end=cast(Any, after_step),  # diffusers types it as a function that gives nothing
            output_type="np",
        )
        return [(clip * 255).round().astype(np.uint8) for clip in output.frames]


def batched(pipeline: WanImageToVideoPipeline) -> BatchedImageToVideo:
    """The same parts, not copied, behind the batched pipeline."""
    twin = BatchedImageToVideo(**pipeline.components)
    twin.set_progress_bar_config(disable=True)
    return twin
