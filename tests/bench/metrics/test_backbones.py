import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPModel, ViTModel

from alignvid.bench.metrics.backbones.clip import load_clip
from alignvid.bench.metrics.backbones.dino import load_dino, original_positions
from alignvid.errors import InputError
from metric_models import build_dino, original_dino_state, save_clip, save_whole_clip


def pixels(height=224, width=224):
    torch.manual_seed(5)
    return torch.randn(2, 3, height, width)


@torch.no_grad()
def test_clip_features_are_the_projected_ones(tmp_path):
    folder = save_whole_clip(tmp_path)
    model = CLIPModel.from_pretrained(folder).eval()
    expected = model.visual_projection(model.vision_model(pixels()).pooler_output)
    torch.testing.assert_close(load_clip(folder, "cpu")(pixels()), expected, atol=1e-6, rtol=0)


def test_a_clip_with_another_activation_is_refused(tmp_path):
    folder = save_clip(tmp_path, activation="gelu")
    with pytest.raises(InputError, match="activation 'gelu', OpenAI's has 'quick_gelu'"):
        load_clip(folder, "cpu")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(tmp_path, "cpu")


def test_a_clip_whose_weights_do_not_fit_its_config_is_refused(tmp_path):
    config = save_clip(tmp_path) / "config.json"
    config.write_text(config.read_text().replace('"projection_dim": 16', '"projection_dim": 24'))
    with pytest.raises(InputError, match=r"do not fit: visual_projection.weight is missing or of another shape"):
        load_clip(tmp_path, "cpu")


def test_another_network_is_no_clip(weights):
    with pytest.raises(InputError, match=r"cannot be loaded|do not fit"):
        load_clip(weights["dino-vit-b-16"], "cpu")


@torch.no_grad()
def test_dino_gives_the_class_token_of_a_square_picture(weights):
    model = ViTModel.from_pretrained(weights["dino-vit-b-16"], add_pooling_layer=False).eval()
    expected = model(pixels()).last_hidden_state[:, 0]
    torch.testing.assert_close(load_dino(weights["dino-vit-b-16"], "cpu")(pixels()), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_original_checkpoint_and_the_folder_give_the_same(weights, tmp_path):
    torch.save(original_dino_state(build_dino()), tmp_path / "dino.pth")
    wide = pixels(224, 391)
    expected = load_dino(weights["dino-vit-b-16"], "cpu")(wide)
    assert torch.equal(load_dino(tmp_path / "dino.pth", "cpu")(wide), expected)


def test_another_file_is_no_dino(weights):
    with pytest.raises(InputError, match="do not fit"):
        load_dino(weights["aesthetic-head"], "cpu")


def cubic(distance: float) -> float:
    """The kernel of bicubic interpolation, a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def spread_row(row: list[float], count: int, scale: float) -> list[float]:
    """Bicubic interpolation of one row by hand, with clamped ends."""
    found = []
    for index in range(count):
        place = (index + 0.5) / scale - 0.5
        taps = range(int(place // 1) - 1, int(place // 1) + 3)
        found.append(sum(row[min(max(tap, 0), len(row) - 1)] * cubic(place - tap) for tap in taps))
    return found


def test_positions_are_spread_with_a_tenth_of_a_patch_more():
    torch.manual_seed(6)
    row = torch.randn(4).tolist()
    table = torch.cat([torch.tensor([7.0]), torch.tensor(row).repeat(4)]).view(1, 17, 1)  # 4x4, equal rows

    spread = original_positions(table, 64, 112, patch=16)  # 4 rows of 7 patches

    assert spread.shape == (1, 29, 1)
    assert spread[0, 0, 0] == 7.0
    expected = spread_row(row, 7, scale=7.1 / 4)
    torch.testing.assert_close(spread[0, 1:8, 0], torch.tensor(expected), atol=1e-5, rtol=0)
    other = F.interpolate(table[:, 1:].view(1, 1, 4, 4), size=(4, 7), mode="bicubic")
    assert (spread[0, 1:8, 0] - other[0, 0, 0]).abs().max() > 1e-3  # what transformers does


def test_a_picture_that_is_almost_square_is_spread_too():
    table = torch.randn(1, 17, 2)
    assert torch.equal(original_positions(table, 64, 64, patch=16), table)
    assert not torch.equal(original_positions(table, 64, 70, patch=16), table)
