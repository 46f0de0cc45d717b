"""Stage 2: the text encoder learns what is asked for, the image tower what is where, before any video is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPVisionModel, PreTrainedTokenizerFast, UMT5EncoderModel

from alignvid.miniature.architecture import (
    IMAGE_PATCH,
    IMAGE_WIDTH,
    TEXT_WIDTH,
    build_image_encoder,
    build_image_processor,
    build_text_encoder,
    build_tokenizer,
)
from alignvid.miniature.drawing import CELL_PITCH, FIRST_CENTRE, WIDTH, first_frame
from alignvid.miniature.prompts import description, long_caption, short_caption, with_unknown_word
from alignvid.miniature.requests import Request, Wanted, read_request
from alignvid.miniature.scenes import (
    CELLS,
    EDIT_KINDS,
    GRID,
    PALETTE,
    SHAPE_KINDS,
    SIZES,
    TRAIN,
    Scene,
    Shape,
    sample_scene,
)
from alignvid.miniature.training.loop import Losses, Plan, device_of, train
from alignvid.miniature.training.start import image_encoder_from, text_encoder_from

TEXT_PLAN = Plan("text", steps=700, learning_rate=2e-3, final_share=0.02)
IMAGE_PLAN = Plan("image", steps=300, learning_rate=2e-3, final_share=0.02)
TEXT_BATCH = 64
IMAGE_BATCH = 24
CAPTION_TOKENS = 56  # the longest caption has 51
DESCRIBED_SHARE, SHORT_SHARE = 0.1, 0.6
COLOURS = tuple(PALETTE)
SHAPE_CLASSES = (len(COLOURS) + 1, len(SHAPE_KINDS) + 1, len(SIZES) + 1)
"""Colour, kind and size of a shape; one class more each for no shape."""
CAPTION_CLASSES = (len(EDIT_KINDS) + 1, *SHAPE_CLASSES, len(CELLS) + 1, *SHAPE_CLASSES, len(CELLS) + 1)
"""The kind of edit, then the shape before and the shape after it, each with its cell."""
PATCHES = WIDTH // IMAGE_PATCH  # in a row, and in a column
POSITIONS = "embeddings.position_embedding.weight"
POSITION_SPREAD = 0.3
_PATCH_ROWS = [
    min(range(GRID), key=lambda row: abs((patch + 0.5) * IMAGE_PATCH - FIRST_CENTRE - row * CELL_PITCH))
    for patch in range(PATCHES)
]
PATCH_CELLS = [GRID * row + column for row in _PATCH_ROWS for column in _PATCH_ROWS]
"""The cell that holds the middle of each patch."""

Ids = Int[Tensor, "batch tokens"]
Classes = Int[Tensor, "batch questions"]


class CaptionReader(nn.Module):
    """The text encoder, and a question sheet that its last token has to answer."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.answers = nn.Linear(TEXT_WIDTH, sum(CAPTION_CLASSES))

    def forward(self, ids: Ids, mask: Ids) -> Float[Tensor, "batch classes"]:
        """Scores of all the answers."""
        states = self.encoder(ids, mask).last_hidden_state
        return self.answers(states[torch.arange(len(ids)), mask.sum(1) - 1])


class ImageReader(nn.Module):
    """The image tower, and a question to every patch of its last but one layer: what shape is in your cell?"""

    def __init__(self, encoder: CLIPVisionModel, *, fresh: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.answers = nn.Linear(IMAGE_WIDTH, sum(SHAPE_CLASSES))
        # CLIP's own start, 0.02, leaves places almost invisible beside the pixels of a patch.
        if fresh:
            nn.init.normal_(encoder.get_parameter(POSITIONS), std=POSITION_SPREAD)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "answers classes"]:
        """Scores of all the answers, patch by patch, from the layer that the pipeline reads."""
        states = self.encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return self.answers(states[:, 1:]).flatten(0, 1)


def train_text_encoder(folder: Path, seed: int, start: Path | None, device: str) -> UMT5EncoderModel:
    """An encoder whose last token knows the edit that a caption asks for; begun with those of a pipeline folder."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    reader = CaptionReader(build_text_encoder(tokenizer) if start is None else text_encoder_from(start, tokenizer))
    train(TEXT_PLAN, reader.to(device), lambda step: _caption_losses(reader, tokenizer, [seed, step]), folder=folder)
    return reader.encoder.eval()


def train_image_encoder(folder: Path, seed: int, start: Path | None, device: str) -> CLIPVisionModel:
    """A tower whose last but one layer knows the shape in every cell; begun with that of a pipeline folder."""
    torch.manual_seed(seed)
    reader = ImageReader(build_image_encoder(), fresh=start is None)
    if start is not None:
        reader.encoder = image_encoder_from(start)
    train(IMAGE_PLAN, reader.to(device), lambda step: _image_losses(reader, [seed, step]), folder=folder)
    return reader.encoder.eval()


def tokenise(tokenizer: PreTrainedTokenizerFast, captions: list[str], length: int) -> tuple[Ids, Ids]:
    """Ids and mask, padded to a fixed length."""
    tokens = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return tokens.input_ids, tokens.attention_mask


def pixel_values(images: list[np.ndarray]) -> Float[Tensor, "batch 3 height width"]:
    """Images as CLIPImageProcessor prepares them."""
    return build_image_processor()(images=images, return_tensors="pt").pixel_values


def _caption_losses(reader: CaptionReader, tokenizer: PreTrainedTokenizerFast, seeds: list[int]) -> Losses:
    rng = np.random.default_rng(seeds)
    captions, answers = [], []
    for scene in _scenes(rng, TEXT_BATCH):
        if rng.random() < DESCRIBED_SHARE:
            captions.append(description(scene, rng))
            answers.append([0] * len(CAPTION_CLASSES))
        else:
            write = short_caption if rng.random() < SHORT_SHARE else long_caption
            asked = write(scene, rng)
            captions.append(with_unknown_word(asked, scene, rng))
            answers.append(_caption_answers(read_request(asked.text)))
    scores = reader(*(part.to(device_of(reader)) for part in tokenise(tokenizer, captions, CAPTION_TOKENS)))
    return _losses(scores, torch.tensor(answers), CAPTION_CLASSES)


def _image_losses(reader: ImageReader, seeds: list[int]) -> Losses:
    scenes = _scenes(np.random.default_rng(seeds), IMAGE_BATCH)
    by_cell = [{shape.cell: shape for shape in scene.shapes} for scene in scenes]
    answers = torch.tensor([_shape_answers(shapes.get(cell)) for shapes in by_cell for cell in PATCH_CELLS])
    pixels = pixel_values([first_frame(scene) for scene in scenes]).to(device_of(reader))
    return _losses(reader(pixels), answers, SHAPE_CLASSES)


def _scenes(rng: np.random.Generator, count: int) -> list[Scene]:
    return [sample_scene(int(seed)) for seed in rng.integers(TRAIN.start, TRAIN.stop, count)]


def _caption_answers(request: Request) -> list[int]:
    """The class of each question that a caption can answer; 0 for one that it leaves open."""
    kind = 1 + EDIT_KINDS.index(request.kind)
    return [kind, *_wanted_answers(request.target), *_wanted_answers(request.outcome)]


def _wanted_answers(wanted: Wanted) -> list[int]:
    colour = 0 if wanted.colour is None else 1 + COLOURS.index(wanted.colour)
    kind = 0 if wanted.kind is None else 1 + SHAPE_KINDS.index(wanted.kind)
    size = 0 if wanted.size is None else 1 + SIZES.index(wanted.size)
    (cell,) = wanted.cells if wanted.cells is not None and len(wanted.cells) == 1 else (None,)
    return [colour, kind, size, 0 if cell is None else 1 + cell]


def _shape_answers(shape: Shape | None) -> list[int]:
    if shape is None:
        return [0, 0, 0]
    return [1 + COLOURS.index(shape.colour), 1 + SHAPE_KINDS.index(shape.kind), 1 + SIZES.index(shape.size)]


def _losses(scores: Float[Tensor, "batch classes"], answers: Classes, classes: tuple[int, ...]) -> Losses:
    parts, answers = scores.split(list(classes), dim=1), answers.to(scores.device)
    loss = torch.stack([F.cross_entropy(part, answers[:, index]) for index, part in enumerate(parts)]).mean()
    right = torch.stack([part.argmax(1) == answers[:, index] for index, part in enumerate(parts)]).all(0)
    return {"loss": loss, "all_right": right.float().mean()}
