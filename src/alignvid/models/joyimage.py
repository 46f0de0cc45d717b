"""JoyImage-Edit and Edit-Plus: double-stream blocks, keys in the order [video | image | text].

`image` are the pictures that are edited; with them the language model read the prompt, so that its vision tokens count
as text. Edit-Plus takes references of any size and runs both passes of guidance in one batch, padded to one length: the
padding is masked, and counts as image.
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Site, Stack

_DOUBLE = Site(
    "double",
    "attn",
    (KeyNorm("img_attn_k_norm", ("video", "image")), KeyNorm("txt_attn_k_norm", ("text",))),
    is_joint=True,
    ignores_mask=True,
    query_norm="img_attn_q_norm",
)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture, the first one; the rest of the pictures is references.

    Raises: AttachmentError if samples of a batch make pictures of different size.
    """
    if (shapes := arguments.get("shape_list")) is None:
        return {"video": math.prod(arguments["hidden_states"].shape[-3:]) // math.prod(transformer.config.patch_size)}
    sizes = {math.prod(sample[0]) for sample in shapes}
    if len(sizes) > 1:
        raise AttachmentError(
            "Pictures of different size in one batch cannot be told from their references in JoyImage-Edit-Plus; make "
            "them one by one."
        )
    return {"video": sizes.pop()}


def batch_order(arguments: Arguments) -> tuple[str, ...]:
    """Edit-Plus runs both passes in one batch, Edit one after the other."""
    return ("uncond", "cond") if arguments.get("shape_list") is not None else ()


FAMILY = Family(
    name="joyimage",
    transformers=("JoyImageEditTransformer3DModel", "JoyImageEditPlusTransformer3DModel"),
    pipelines=("JoyImageEditPipeline", "JoyImageEditPlusPipeline"),
    stacks=(Stack("double_blocks", (_DOUBLE,)),),
    token_counts=token_counts,
    batch_order=batch_order,
)
