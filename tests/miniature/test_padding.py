"""One padding key with a bias of log(count) is the same as all of Wan's padding keys."""

from __future__ import annotations

import torch

from alignvid.miniature.architecture import IMAGE_WIDTH, TEXT_TOKENS, TEXT_WIDTH, build_transformer
from alignvid.miniature.padding import pad_once, use_one_padding_key

PROMPT_TOKENS = 10


def test_training_processor_equals_the_real_one() -> None:
    torch.manual_seed(0)
    transformer = build_transformer().eval()
    encoded, mask = torch.randn(2, PROMPT_TOKENS, TEXT_WIDTH), torch.ones(2, PROMPT_TOKENS)
    mask[0, 6:] = 0  # the first prompt is shorter
    padded = torch.zeros(2, TEXT_TOKENS, TEXT_WIDTH)
    padded[:, :PROMPT_TOKENS] = encoded * mask.unsqueeze(-1)
    latents, steps, image = torch.randn(2, 36, 3, 10, 10), torch.tensor([900.0, 300.0]), torch.randn(2, 65, IMAGE_WIDTH)
    with torch.no_grad():
        expected = transformer(latents, steps, padded, image, return_dict=False)[0]
        processor = use_one_padding_key(transformer)
        processor.text = pad_once(encoded, mask)
        actual = transformer(latents, steps, processor.text.tokens, image, return_dict=False)[0]
    assert (actual - expected).abs().max() < 1e-5  # outputs are of size 0.5; sums of 512 terms in another order
