import pytest
import torch

from metric_models import (
    save_clip,
    save_dino,
    save_head,
    save_tokenizer,
    viclip_state,
)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Tiny random weights of every kind but RAFT's, by the names of --weights."""
    folder = tmp_path_factory.mktemp("weights")
    tokenizer = save_tokenizer(folder / "tokenizer")
    from transformers import AutoTokenizer

    torch.save(viclip_state(len(AutoTokenizer.from_pretrained(tokenizer))), folder / "viclip.pth")
    return {
        "clip-vit-l-14": save_clip(folder / "clip-l", patch=28),
        "clip-vit-b-32": save_clip(folder / "clip-b", patch=32),
        "dino-vit-b-16": save_dino(folder / "dino"),
        "aesthetic-head": save_head(folder / "head.pth"),
        "clip-tokenizer": tokenizer,
        "viclip": folder / "viclip.pth",
    }


@pytest.fixture(scope="session")
def raft_file(tmp_path_factory):
    """RAFT (large) with random weights, as torchvision saves it; its size is fixed."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(raft_large(weights=None).state_dict(), path)
    return path
