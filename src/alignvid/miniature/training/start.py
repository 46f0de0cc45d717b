"""Begin from the shipped weights, as far as another vocabulary, picture size and patch leave them valid."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import Tensor
from transformers import AutoTokenizer, CLIPVisionModel, PreTrainedTokenizerFast, UMT5EncoderModel

from alignvid.miniature.architecture import build_image_encoder, build_text_encoder

PATCHES = "embeddings.patch_embedding.weight"
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")


def text_encoder_from(folder: Path, tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """A text encoder for this vocabulary; words that the folder's knows keep their embedding."""
    encoder, old = build_text_encoder(tokenizer), UMT5EncoderModel.from_pretrained(folder / "text_encoder").float()
    rows = AutoTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    weights = old.state_dict()
    fresh = torch.randn(len(tokenizer), weights["shared.weight"].shape[1]) * weights["shared.weight"].std()
    for word, row in tokenizer.get_vocab().items():
        if word in rows:
            fresh[row] = weights["shared.weight"][rows[word]]
    encoder.load_state_dict(weights | {name: fresh for name in EMBEDDINGS if name in weights})
    return encoder


def image_encoder_from(folder: Path) -> CLIPVisionModel:
    """An image tower for this size of patch; the number of patches has to be the same."""
    encoder = build_image_encoder()
    weights = CLIPVisionModel.from_pretrained(folder / "image_encoder").float().state_dict()
    (name,) = (name for name in weights if name.endswith(PATCHES))
    weights[name] = _resized(weights[name], encoder.state_dict()[name].shape[-1])
    encoder.load_state_dict(weights)
    return encoder


def transformer_from(folder: Path) -> WanTransformer3DModel:
    """The folder's transformer, in single precision."""
    return WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)


def _resized(kernel: Tensor, size: int) -> Tensor:
    """A patch kernel for patches of another size that gives about the same on an enlarged picture."""
    before = kernel.shape[-1]
    larger = F.interpolate(kernel, size=(size, size), mode="bilinear", align_corners=False)
    return larger * (before / size) ** 2
