"""The training loop resumes where it stopped, as if it had not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from alignvid.miniature.training.loop import Losses, Plan, learning_rate, load_checkpoint, train

PLAN = Plan("toy", steps=20, learning_rate=1e-2, final_share=0.1)


class Toy(nn.Module):
    """One matrix that Muon trains and one that AdamW does."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)])})
        self.head = nn.Linear(4, 1)

    def losses_at(self, step: int) -> Losses:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {
            "loss": (self.head(self.transformer["blocks"][0](inputs)) - inputs.sum(1, keepdim=True)).square().mean()
        }


def toy() -> Toy:
    torch.manual_seed(0)
    return Toy()


class Interrupted(Exception):
    """Stands for a killed process."""


def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignvid.miniature.training.loop.CHECKPOINT_EVERY_S", 0.0)
    (whole, first, second), broken = (toy(), toy(), toy()), tmp_path / "broken"
    broken.mkdir()
    train(PLAN, whole, whole.losses_at, folder=tmp_path)

    def stops_at_ten(step: int) -> Losses:
        if step == 10:
            raise Interrupted
        return first.losses_at(step)

    with pytest.raises(Interrupted):
        train(PLAN, first, stops_at_ten, folder=broken)
    train(PLAN, second, second.losses_at, folder=broken)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    model = toy()
    before = model.losses_at(99)["loss"].item()
    train(PLAN, model, model.losses_at, folder=tmp_path)
    assert model.losses_at(99)["loss"].item() < before
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[0]["stage"] == "toy" and rows[0]["schema_version"] == 1


def test_a_checkpoint_restores_the_weights(tmp_path: Path) -> None:
    trained, fresh = toy(), Toy()
    train(PLAN, trained, trained.losses_at, folder=tmp_path)
    assert load_checkpoint(tmp_path / "toy.safetensors", fresh) == PLAN.steps
    assert torch.equal(trained.head.weight, fresh.head.weight)


def test_learning_rate_rises_then_falls_to_its_final_share() -> None:
    plan = Plan("x", steps=1000, learning_rate=1.0, final_share=0.1)
    assert learning_rate(plan, 0) == pytest.approx(0.01)
    assert learning_rate(plan, 100) > 0.95
    assert learning_rate(plan, 1000) == pytest.approx(0.1)
