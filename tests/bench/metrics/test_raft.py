import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alignvid.bench.metrics.backbones.raft import load_raft, padding, torchvision_names
from alignvid.bench.metrics.dynamic_degree import without_padding
from alignvid.bench.metrics.weights import read_state
from alignvid.errors import InputError

ENCODERS = {"feature_encoder": "fnet", "context_encoder": "cnet"}
UPDATE = {
    "update_block.motion_encoder.convcorr1.0": "update_block.encoder.convc1",
    "update_block.motion_encoder.convcorr2.0": "update_block.encoder.convc2",
    "update_block.motion_encoder.convflow1.0": "update_block.encoder.convf1",
    "update_block.motion_encoder.convflow2.0": "update_block.encoder.convf2",
    "update_block.motion_encoder.conv.0": "update_block.encoder.conv",
    "update_block.recurrent_block.convgru1.convz": "update_block.gru.convz1",
    "update_block.recurrent_block.convgru1.convr": "update_block.gru.convr1",
    "update_block.recurrent_block.convgru1.convq": "update_block.gru.convq1",
    "update_block.recurrent_block.convgru2.convz": "update_block.gru.convz2",
    "update_block.recurrent_block.convgru2.convr": "update_block.gru.convr2",
    "update_block.recurrent_block.convgru2.convq": "update_block.gru.convq2",
    "update_block.flow_head.conv1": "update_block.flow_head.conv1",
    "update_block.flow_head.conv2": "update_block.flow_head.conv2",
    "mask_predictor.convrelu.0": "update_block.mask.0",
    "mask_predictor.conv": "update_block.mask.2",
}


def original_name(name: str) -> str:
    """The name in raft-things.pth of a weight of torchvision's, from the table above."""
    module, kind = name.rsplit(".", 1)
    if module in UPDATE:
        return f"module.{UPDATE[module]}.{kind}"
    encoder, *path = module.split(".")
    return f"module.{ENCODERS[encoder]}.{original_path(path)}.{kind}"


def original_path(path: list[str]) -> str:
    match path:
        case ["convnormrelu", "0"]:
            return "conv1"
        case ["convnormrelu", "1"]:
            return "norm1"
        case ["conv"]:
            return "conv2"
        case [layer, block, "downsample", index]:
            return f"{layer}.{block}.downsample.{index}"
        case [layer, block, part, index]:
            return f"{layer}.{block}.{'conv' if index == '0' else 'norm'}{part[-1]}"
    raise ValueError(path)


def test_every_weight_of_the_original_checkpoint_finds_its_place(raft_file, tmp_path):
    state = read_state(raft_file)
    original = {original_name(name): tensor for name, tensor in state.items()}
    shortcut = [name for name in original if "downsample.1" in name]
    original |= {name.replace("downsample.1", "norm3"): original[name] for name in shortcut}  # held twice there
    torch.save(original, tmp_path / "raft-things.pth")

    translated = torchvision_names(read_state(tmp_path / "raft-things.pth"))

    assert translated.keys() == state.keys()
    assert all(torch.equal(translated[name], state[name]) for name in state)


def test_flow_is_torchvisions_on_the_padded_images(raft_file):
    from torchvision.models.optical_flow import raft_large

    model = raft_large(weights=None).eval()
    model.load_state_dict(torch.load(raft_file, weights_only=True))
    first, second = np.random.default_rng(0).integers(0, 256, (2, 130, 131, 3), dtype=np.uint8)

    flow = load_raft(raft_file, "cpu")(first, second)

    # 130x131 needs 6 rows (3 above, 3 below) and 5 columns (2 left, 3 right)
    padded = [
        F.pad(torch.from_numpy(image).permute(2, 0, 1)[None].float(), (2, 3, 3, 3), mode="replicate")
        for image in (first, second)
    ]
    with torch.no_grad():
        expected = model(*[2 * (image / 255) - 1 for image in padded], num_flow_updates=20)[-1]
    assert flow.shape == (136, 136, 2)
    assert np.array_equal(flow, expected[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 128), (0, 0, 0, 0)), ((130, 131), (2, 3, 3, 3)), ((135, 129), (3, 4, 0, 1)), ((468, 832), (0, 0, 2, 2))],
)
def test_the_odd_pixel_of_padding_goes_right_and_below(size, expected):
    assert padding(*size) == expected


def test_natively_the_padding_is_cut_off():
    image = np.zeros((130, 131, 3), np.uint8)
    flow = np.zeros((136, 136, 2), np.float32)
    flow[3:133, 2:133] = 1
    assert without_padding(flow, image).shape == (130, 131, 2)
    assert without_padding(flow, image).all()


def test_a_small_video_is_refused(raft_file):
    image = np.zeros((64, 200, 3), np.uint8)
    with pytest.raises(InputError, match="A video of 200x64 is too small for RAFT; 128 pixels a side are needed"):
        load_raft(raft_file, "cpu")(image, image)


def test_another_networks_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"do not fit: Error.* Missing key"):
        load_raft(weights["aesthetic-head"], "cpu")


def test_a_file_that_holds_more_than_tensors_is_not_unpickled(tmp_path):
    torch.save({"model": print}, tmp_path / "raft.pth")
    with pytest.raises(InputError, match="cannot be read"):
        load_raft(tmp_path / "raft.pth", "cpu")


def test_a_damaged_file_is_refused(tmp_path, raft_file):
    (tmp_path / "raft.pth").write_bytes(raft_file.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"raft.pth' cannot be read"):
        load_raft(tmp_path / "raft.pth", "cpu")
