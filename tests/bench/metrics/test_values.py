"""Each metric on a whole video and tiny random networks, against its definition written out here."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection, ViTModel

from alignvid.bench.metrics import Footage, find_metrics
from alignvid.bench.metrics.backbones import raft
from alignvid.bench.metrics.metric import Setup
from alignvid.bench.metrics.movement import pair_score
from alignvid.bench.metrics.pixels import clip_pixels, dino_crop_pixels, dino_pixels
from alignvid.errors import InputError
from metric_models import moving_square

NO_IMAGE = Path("no-image.png")
TOLERANCE = 1e-6  # batches of other sizes and another order of sums, in float32


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    frames = moving_square(5, height=160, width=240)
    path = tmp_path_factory.mktemp("image") / "image.png"
    Image.fromarray(frames[0]).save(path)
    return Footage(frames=frames, fps=8.0, prompt="the cat puts on sunglasses", image=path)


def prepared(name, weights, protocol="vbench"):
    metric = find_metrics([name])[0]
    paths = {item.name: weights[item.name] for item in metric.weights}
    return metric.prepare(Setup(protocol=protocol, weights=paths, device="cpu"))


@torch.no_grad()
def test_aesthetic_quality_is_a_tenth_of_the_heads_mean(weights, footage):
    clip = CLIPVisionModelWithProjection.from_pretrained(weights["clip-vit-l-14"]).eval()
    head = torch.load(weights["aesthetic-head"], weights_only=True)
    scores = []
    for frame in footage.frames:
        feature = clip(clip_pixels(frame[None], antialias=False, is_rounded=False)).image_embeds[0]
        scores.append((feature / feature.norm() @ head["weight"][0] + head["bias"][0]).item() / 10)

    measurement = prepared("aesthetic_quality", weights)(footage)

    assert measurement.details["frames"] == pytest.approx(scores, abs=TOLERANCE)
    assert measurement.value == pytest.approx(np.mean(scores), abs=TOLERANCE)


def recursion(features):
    """VBench's consistency, frame by frame."""
    unit = F.normalize(features, dim=-1)
    pairs = [
        (max(0.0, (unit[i - 1] @ unit[i]).item()) + max(0.0, (unit[0] @ unit[i]).item())) / 2
        for i in range(1, len(unit))
    ]
    return sum(pairs) / len(pairs)


@torch.no_grad()
def test_background_consistency_is_the_recursion_on_clip(weights, footage):
    clip = CLIPVisionModelWithProjection.from_pretrained(weights["clip-vit-b-32"]).eval()
    features = clip(clip_pixels(footage.frames, antialias=False, is_rounded=False)).image_embeds
    assert prepared("background_consistency", weights)(footage).value == pytest.approx(
        recursion(features), abs=TOLERANCE
    )


@torch.no_grad()
def test_subject_consistency_is_the_recursion_on_dino_of_whole_frames(weights, footage):
    frames = footage.frames[:, :, :160]  # square, so that transformers' own positions are DINO's
    square = Footage(frames=frames, fps=8.0, prompt="", image=footage.image)
    dino = ViTModel.from_pretrained(weights["dino-vit-b-16"], add_pooling_layer=False).eval()
    features = dino(dino_pixels(frames, antialias=False)).last_hidden_state[:, 0]
    assert prepared("subject_consistency", weights)(square).value == pytest.approx(recursion(features), abs=TOLERANCE)


@torch.no_grad()
def test_i2v_subject_compares_with_the_image_and_the_neighbours(weights, footage):
    from torchvision import transforms

    dino = ViTModel.from_pretrained(weights["dino-vit-b-16"], add_pooling_layer=False).eval()
    steps = [
        transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    picture = transforms.Compose(steps)(Image.open(footage.image))[None]
    image, *unit = F.normalize(
        torch.cat([dino(part).last_hidden_state[:, 0] for part in (picture, dino_crop_pixels(footage.frames))]), dim=-1
    )
    to_image = [max(0.0, (image @ frame).item()) for frame in unit]
    between = [max(0.0, (unit[i - 1] @ unit[i]).item()) for i in range(1, len(unit))]
    expected = 0.4 * max(to_image) + 0.3 * np.mean(between) + 0.3 * min(between)

    measurement = prepared("i2v_subject", weights)(footage)

    assert measurement.value == pytest.approx(expected, abs=2e-6)
    assert measurement.details["to_image"] == pytest.approx(to_image, abs=2e-6)


@torch.no_grad()
def test_viclip_similarity_is_a_cosine_without_a_factor(weights, footage):
    from alignvid.bench.metrics.backbones.viclip import load_viclip

    model = load_viclip(weights["viclip"], weights["clip-tokenizer"], "cpu")
    frames = footage.frames[[0, 1, 2, 3, 4, 4, 4, 4]]  # five frames, the last again
    video = model.encode_video(clip_pixels(frames, antialias=False, is_rounded=True))
    text = model.encode_text(footage.prompt)

    measurement = prepared("viclip_similarity", weights)(footage)

    assert measurement.value == pytest.approx(F.cosine_similarity(video, text, dim=0).item(), abs=TOLERANCE)
    assert -1 <= measurement.value <= 1
    assert measurement.details == {"frames": [0, 1, 2, 3, 4, 4, 4, 4]}


def test_flickering_is_one_minus_the_mean_difference():
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    frames[1] = 51  # a fifth of 255
    frames[2] = 51
    frames[2, :8] = 255  # half of it: 204 more
    measurement = prepared("temporal_flickering", {})(Footage(frames=frames, fps=8.0, prompt="", image=NO_IMAGE))
    assert measurement.details["pairs"] == [51.0, 102.0]
    assert measurement.value == pytest.approx(1 - (51 + 102) / 2 / 255, abs=1e-12)


def test_a_still_video_does_not_flicker():
    frames = np.full((4, 16, 16, 3), 77, np.uint8)
    for protocol in ("vbench", "native"):
        assert prepared("temporal_flickering", {}, protocol)(clip(frames)).value == 1.0


def test_dis_flow_sees_what_moves_and_by_how_much():
    measure = prepared("dynamic_degree_dis", {})
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (128, 256, 3), dtype=np.uint8)
    ground = cv2.GaussianBlur(ground, (0, 0), 3)
    moving = np.stack([np.roll(ground, 5 * index, axis=1)[:, 32:-32] for index in range(6)])
    measurement = measure(clip(moving))
    assert measurement.value == 1.0
    assert measurement.details["pairs"] == pytest.approx([5.0] * 5, abs=0.5)  # pixels
    assert measure(clip(np.stack([moving[0]] * 6))).value == 0.0


def test_a_video_too_small_for_dis_is_refused():
    with pytest.raises(InputError, match="A video of 20x8 is too small for DIS flow"):
        prepared("dynamic_degree_dis", {})(clip(np.zeros((3, 8, 20, 3), np.uint8)))


def test_raft_scores_the_padded_field_in_vbench_and_the_picture_natively(raft_file, monkeypatch):
    monkeypatch.setattr(raft, "ITERATIONS", 2)  # for time; the field of any number is padded
    frames = np.random.default_rng(0).integers(0, 256, (2, 130, 131, 3), dtype=np.uint8)
    flow = raft.load_raft(raft_file, "cpu")(*frames)
    weights = {"raft": raft_file}
    assert prepared("dynamic_degree", weights)(clip(frames)).details["pairs"] == [pair_score(flow)]
    inner = flow[3:133, 2:133]
    assert prepared("dynamic_degree", weights, "native")(clip(frames)).details["pairs"] == [pair_score(inner)]


@pytest.mark.parametrize(
    "name", ["temporal_flickering", "subject_consistency", "background_consistency", "i2v_subject"]
)
@pytest.mark.parametrize("protocol", ["vbench", "released", "native"])
def test_one_frame_has_no_value(name, protocol, weights, footage):
    single = Footage(frames=footage.frames[:1], fps=8.0, prompt="", image=footage.image)
    with pytest.raises(InputError, match="two frames are needed"):
        prepared(name, weights, protocol)(single)


@pytest.mark.parametrize("name", ["aesthetic_quality", "viclip_similarity"])
def test_one_frame_is_enough_for_looks_and_prompt(name, weights, footage):
    single = Footage(frames=footage.frames[:1], fps=8.0, prompt="the cat", image=footage.image)
    assert np.isfinite(prepared(name, weights)(single).value)


@pytest.mark.parametrize("name", ["aesthetic_quality", "background_consistency", "subject_consistency"])
def test_natively_frames_are_antialiased(name, weights, footage):
    assert prepared(name, weights, "native")(footage).value != prepared(name, weights, "vbench")(footage).value


def clip(frames):
    return Footage(frames=frames, fps=8.0, prompt="", image=NO_IMAGE)
