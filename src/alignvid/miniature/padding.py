"""Wan's 512 text keys for the price of one: in training, a single key stands for all the padding ones.

The pipeline pads encoded prompts with zeros up to 512 tokens. All the padding keys and values of a block are then
equal, and n equal keys get the same weight as one key whose logit is raised by log(n). Training only; in use the
model runs as it is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from jaxtyping import Float, Shaped
from torch import Tensor

from alignvid.miniature.architecture import TEXT_TOKENS

Tokens = Float[Tensor, "batch tokens width"]
Heads = Float[Tensor, "batch tokens heads head_width"]


class PaddedText(NamedTuple):
    """Encoded prompts: up to the longest one of the batch, zeros behind each, and one zero more for all the rest."""

    tokens: Tokens
    stands_for: int
    """How many of the 512 keys the last one represents."""


def pad_once(encoded: Float[Tensor, "batch tokens width"], mask: Shaped[Tensor, "batch tokens"]) -> PaddedText:
    """What the text encoder gave for a padded batch, as the pipeline would pad it, but short.

    The mask is 1 for words and 0 for padding.
    """
    kept = encoded * mask.unsqueeze(-1)
    return PaddedText(F.pad(kept, (0, 0, 0, 1)), TEXT_TOKENS - encoded.shape[1])


class OnePaddingKey:
    """Wan's attention processor, with `text` tokens in place of 512; set `text` before each forward."""

    def __init__(self) -> None:
        self.text = PaddedText(torch.zeros(1, TEXT_TOKENS, 1), 1)

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Float[Tensor, "batch queries width"],
        encoder_hidden_states: Float[Tensor, "batch keys width"] | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Self-attention as in Wan; cross-attention with the padding key's logits raised."""
        query = _split(attn.norm_q(attn.to_q(hidden_states)), attn.heads)
        if encoder_hidden_states is None:
            key = _split(attn.norm_k(attn.to_k(hidden_states)), attn.heads)
            query, key = _rotate(query, rotary_emb), _rotate(key, rotary_emb)
            attended = _attend(query, key, _split(attn.to_v(hidden_states), attn.heads), None)
            return attn.to_out[0](attended)
        count = self.text.tokens.shape[1]
        image, text = encoder_hidden_states[:, :-count], encoder_hidden_states[:, -count:]
        key, value = _split(attn.norm_k(attn.to_k(text)), attn.heads), _split(attn.to_v(text), attn.heads)
        attended = _attend(query, key, value, self._bias(query))
        added: Any = attn  # which has image projections here
        key, value = added.norm_added_k(added.add_k_proj(image)), added.add_v_proj(image)
        attended = attended + _attend(query, _split(key, attn.heads), _split(value, attn.heads), None)
        return attn.to_out[0](attended)

    def _bias(self, query: Heads) -> Float[Tensor, "1 1 1 keys"]:
        bias = query.new_zeros(1, 1, 1, self.text.tokens.shape[1])
        bias[..., -1] = math.log(self.text.stands_for)
        return bias


def use_one_padding_key(transformer: WanTransformer3DModel) -> OnePaddingKey:
    """Put the training processor into every attention of a transformer, and return it."""
    processor = OnePaddingKey()
    blocks: Any = transformer.blocks
    for block in blocks:
        block.attn1.set_processor(processor)
        block.attn2.set_processor(processor)
    return processor


def _split(tokens: Tokens, heads: int) -> Heads:
    return tokens.unflatten(2, (heads, -1))


def _attend(
    query: Heads,
    key: Float[Tensor, "batch keys heads head_width"],
    value: Float[Tensor, "batch keys heads head_width"],
    bias: Tensor | None,
) -> Float[Tensor, "batch tokens heads*head_width"]:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


def _rotate(tokens: Heads, rotary: tuple[Tensor, Tensor] | None) -> Heads:
    assert rotary is not None, "Wan's self-attention always has a rotary embedding"
    even, odd = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotary[0][..., 0::2], rotary[1][..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(3)
