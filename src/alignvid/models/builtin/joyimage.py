"""JoyImage-Edit and Edit-Plus: double-stream blocks, keys in the order [video | image | vision | text].

`image` are the pictures that are edited, `vision` what the language model made of them: the text up to the last of its
vision tokens. Edit-Plus takes references of any size and runs both passes of guidance in one batch, padded to one
length: the padding is masked, and counts as image.
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.vision_tokens import leading_vision, reads_pictures, text_behind_vision, watch


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """The stack of the transformer; the pipeline says whether vision tokens can be found in the text."""
    text = ("vision", "text") if reads_pictures(pipeline) else ("text",)
    norms = (KeyNorm("img_attn_k_norm", ("video", "image")), KeyNorm("txt_attn_k_norm", text))
    site = Site("double", "attn", norms, is_joint=True, ignores_mask=True, query_norm="img_attn_q_norm")
    return (Stack("double_blocks", (site,)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int | None]:
    """Tokens of the generated picture, the first one, the rest of the pictures is references; and vision tokens.

    Raises: AttachmentError if samples of a batch make pictures of different size.
    """
    vision = leading_vision(arguments["encoder_hidden_states"])
    if (shapes := arguments.get("shape_list")) is None:
        video = math.prod(arguments["hidden_states"].shape[-3:]) // math.prod(transformer.config.patch_size)
        return {"vision": vision, "video": video}
    sizes = {math.prod(sample[0]) for sample in shapes}
    if len(sizes) > 1:
        raise AttachmentError(
            "Pictures of different size in one batch cannot be separated from their references in JoyImage-Edit-Plus; "
            "make them one by one."
        )
    return {"vision": vision, "video": sizes.pop()}


def batch_order(arguments: Arguments) -> tuple[str, ...]:
    """Edit-Plus runs both passes in one batch, Edit one after the other."""
    return ("uncond", "cond") if arguments.get("shape_list") is not None else ()


FAMILY = Family(
    name="joyimage",
    transformers=("JoyImageEditTransformer3DModel", "JoyImageEditPlusTransformer3DModel"),
    pipelines=("JoyImageEditPipeline", "JoyImageEditPlusPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, prompts=text_behind_vision, watch=watch),
    time=Time(batch_order=batch_order),
)
