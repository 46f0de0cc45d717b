"""ViCLIP against its definition, written out here with explicit attention on the checkpoint's own names."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from alignvid.bench.metrics.backbones.viclip import cleaned, load_viclip
from alignvid.bench.metrics.viclip_similarity import middle_frames
from alignvid.errors import InputError


@pytest.fixture(scope="module")
def state(weights):
    return torch.load(weights["viclip"], weights_only=True)


@pytest.fixture(scope="module")
def model(weights):
    return load_viclip(weights["viclip"], weights["clip-tokenizer"], "cpu")


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def blocks(state, prefix, x, is_causal):
    """Two pre-norm blocks with one head of 64 and quick GELU; x is (token, 64)."""
    for index in range(2):
        name = f"{prefix}.transformer.resblocks.{index}"
        joint = norm(state, f"{name}.ln_1", x) @ state[f"{name}.attn.in_proj_weight"].T
        query, key, value = (joint + state[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
        logits = query @ key.T / 8
        if is_causal:
            logits = logits.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), float("-inf"))
        mixed = logits.softmax(-1) @ value
        x = x + mixed @ state[f"{name}.attn.out_proj.weight"].T + state[f"{name}.attn.out_proj.bias"]
        inner = norm(state, f"{name}.ln_2", x) @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
        inner = inner * torch.sigmoid(1.702 * inner)
        x = x + inner @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return x


def test_the_video_encoder_attends_over_space_and_time_at_once(model, state):
    frames = torch.randn(8, 3, 224, 224)
    place = state["vision_encoder.positional_embedding"]
    time = state["vision_encoder.temporal_positional_embedding"][0]
    tokens = [state["vision_encoder.class_embedding"] + place[0]]
    for index, frame in enumerate(frames):
        patches = F.conv2d(frame, state["vision_encoder.conv1.weight"][:, :, 0], stride=32).flatten(1).T  # row by row
        tokens += list(patches + place[1:] + time[index])
    hidden = norm(state, "vision_encoder.ln_pre", torch.stack(tokens))
    hidden = blocks(state, "vision_encoder", hidden, is_causal=False)
    expected = norm(state, "vision_encoder.ln_post", hidden[0]) @ state["vision_encoder.proj"]

    with torch.no_grad():
        found = model.encode_video(frames)

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", ["the cat puts on sunglasses", "sunglasses " * 40], ids=["short", "cut"])
def test_the_text_encoder_reads_the_vector_of_the_last_token(model, state, weights, prompt):
    tokenizer = AutoTokenizer.from_pretrained(weights["clip-tokenizer"])
    ids = tokenizer(prompt)["input_ids"]
    ids = [*ids[:-1][:31], ids[-1]]  # 32 at most, ending in the end of text
    hidden = state["text_encoder.token_embedding.weight"][ids] + state["text_encoder.positional_embedding"][: len(ids)]
    hidden = blocks(state, "text_encoder", hidden, is_causal=True)
    expected = norm(state, "text_encoder.ln_final", hidden[-1]) @ state["text_encoder.text_projection"]

    with torch.no_grad():
        found = model.encode_text(prompt)

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_prompts_are_cleaned_of_html_and_damaged_encodings():
    assert cleaned("  a cat &amp;amp; a\ndog â€” ") == "a cat & a dog —"


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (81, [4, 14, 24, 34, 44, 54, 64, 75]),
        (16, [0, 2, 4, 6, 8, 10, 12, 14]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, [0, 1, 2, 2, 2, 2, 2, 2]),
        (1, [0] * 8),
    ],
)
def test_the_middle_frame_of_each_eighth_is_taken(length, expected):
    # 81 frames: edges 0 10 20 30 40 50 60 70 81, middles (0+9)//2 = 4, …, (70+80)//2 = 75
    assert middle_frames(length, 8) == expected


def test_a_checkpoint_of_something_else_is_refused(weights):
    with pytest.raises(InputError, match=r"have no vision_encoder.temporal_positional_embedding"):
        load_viclip(weights["aesthetic-head"], weights["clip-tokenizer"], "cpu")


def test_a_checkpoint_with_a_weight_missing_is_refused(weights, state, tmp_path):
    torch.save({k: v for k, v in state.items() if not k.endswith("1.ln_2.bias")}, tmp_path / "viclip.pth")
    with pytest.raises(InputError, match="do not fit"):
        load_viclip(tmp_path / "viclip.pth", weights["clip-tokenizer"], "cpu")


def test_another_tokenizer_is_refused(weights, tmp_path):
    from model_folders import build_tokenizer

    build_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="give CLIP's tokenizer"):
        load_viclip(weights["viclip"], tmp_path, "cpu")
