"""Attention maps laid over the frames of a video, with the word, the scale and the resolution written below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from alignvid.analysis.facts import AttentionMap
from alignvid.errors import PictureError
from alignvid.media.videos import Frames
from alignvid.plots.style import HEAT, house_style

_LEAST_SIDE = 320  # pixels; a smaller frame is enlarged, so that the words below it can be read
_OPACITY = 0.6  # of the map's colours
_FONT_SIZES = (14, 11)  # pixels: of the word, and of the rest
_LINE = 19  # pixels from one line of text to the next
_MARGIN = 6
_BAR_HEIGHT = 10


def mean_map(maps: Sequence[AttentionMap], name: str) -> Float32[np.ndarray, "frame height width"]:
    """The map of a word as a mean over blocks, steps and passes of guidance.

    Raises: PictureError if there is no map of that name, or they differ in size or hold NaN.
    """
    chosen = [item.weights for item in maps if item.name == name]
    if not chosen:
        there = ", ".join(sorted({item.name for item in maps}))
        raise PictureError(f"There is no map of {name!r}; there is {there or 'none at all'}.")
    if len(sizes := {weights.shape for weights in chosen}) > 1:
        raise PictureError(f"The maps of {name!r} have the sizes {sorted(sizes)}; give those of one run and section.")
    mean = np.stack(chosen).mean(0)
    _check_map(mean, name)
    return mean


def overlaid(
    frames: Frames, weights: Float32[np.ndarray, "latent rows columns"], *, word: str, brightest: float
) -> UInt8[np.ndarray, "frame _ _ 3"]:
    """The frames in grey under the map in colour, larger if they are small, with a strip of text below.

    Args:
        frames: RGB.
        weights: for each latent frame, which stands for the pixel frames it was made into (`pixel_frames`).
        word: whose attention it is.
        brightest: the share of attention that the brightest colour stands for; give one for maps to be compared.
    Raises: PictureError if the map does not fit the frames, or is not finite.
    """
    _check_map(weights, word)
    if not 0 < brightest < float("inf"):
        raise PictureError(f"The brightest share is {brightest}; give a finite number above 0.")
    counts = pixel_frames(len(weights), len(frames))
    scale = max(1, -(-_LEAST_SIDE // min(frames.shape[1:3])))
    colours = _colours()
    strip = _strip(frames.shape[2] * scale, weights.shape[1:], word, brightest, colours)
    made = []
    for frame, latent in zip(frames, np.repeat(np.arange(len(weights)), counts), strict=True):
        picture = _enlarged(frame, scale)
        heat = _upsampled(weights[latent] / brightest, picture.shape[1], picture.shape[0])
        made.append(np.concatenate([_blended(picture, colours[heat]), strip]))
    return np.stack(made)


def pixel_frames(latent_count: int, frame_count: int) -> list[int]:
    """How many pixel frames each latent frame was made into.

    Video autoencoders make one pixel frame of the first latent frame and equally many (Wan: 4) of each of the others.
    Raises: PictureError if the counts do not fit that.
    """
    if latent_count == frame_count:
        return [1] * frame_count
    if latent_count > 1 and frame_count > latent_count and (frame_count - 1) % (latent_count - 1) == 0:
        return [1, *[(frame_count - 1) // (latent_count - 1)] * (latent_count - 1)]
    raise PictureError(
        f"A map of {latent_count} latent frames does not fit {frame_count} frames (1 for the first, equally many for "
        "each of the others); give the frames of the same run."
    )


def _check_map(weights: np.ndarray, name: str) -> None:
    if 0 in weights.shape or not np.isfinite(weights).all():
        raise PictureError(f"The map of {name!r} is empty or has NaN or infinity; observe the run again.")


def _colours() -> UInt8[np.ndarray, "256 3"]:
    with house_style():
        from matplotlib import colormaps

        return (colormaps[HEAT](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _enlarged(frame: UInt8[np.ndarray, "height width 3"], scale: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """By whole pixels, so that nothing is blurred."""
    return frame.repeat(scale, 0).repeat(scale, 1)


def _upsampled(shares: np.ndarray, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """Bilinear, and as the index of a colour."""
    picture = Image.fromarray(shares.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return (np.clip(np.asarray(picture), 0, 1) * 255).round().astype(np.uint8)


def _blended(
    picture: UInt8[np.ndarray, "height width 3"], colour: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    grey = picture @ np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    return (_OPACITY * colour + (1 - _OPACITY) * grey[..., None]).round().astype(np.uint8)


def _strip(
    width: int, size: tuple[int, ...], word: str, brightest: float, colours: UInt8[np.ndarray, "256 3"]
) -> UInt8[np.ndarray, "_ width 3"]:
    """White with the word, the colour scale with its ends, and how coarse the map is."""
    height = 3 * _LINE + _BAR_HEIGHT + 3 * _MARGIN
    image = Image.new("RGB", (width, height + height % 2), "white")
    draw = ImageDraw.Draw(image)
    large, small = _fonts()
    draw.text((_MARGIN, _MARGIN), _shortened(f"attention to “{word}”", draw, large, width), fill="black", font=large)
    top = 2 * _MARGIN + _LINE
    bar = np.linspace(0, 255, width - 2 * _MARGIN).round().astype(np.uint8)
    image.paste(Image.fromarray(colours[bar][None].repeat(_BAR_HEIGHT, 0)), (_MARGIN, top))
    below = top + _BAR_HEIGHT + 2
    draw.text((_MARGIN, below), "0 %", fill="black", font=small)
    end = f"{100 * brightest:.3g} % of a token’s attention"
    draw.text((width - _MARGIN - draw.textlength(end, small), below), end, fill="black", font=small)
    coarse = f"{size[0]}×{size[1]} patches a frame, upsampled bilinearly"
    draw.text((_MARGIN, below + _LINE), _shortened(coarse, draw, small, width), fill="#444444", font=small)
    return np.asarray(image)


def _fonts() -> list[ImageFont.FreeTypeFont]:
    """The font of the figures, which matplotlib brings with it."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [ImageFont.truetype(file, pixels) for pixels in _FONT_SIZES]


def _shortened(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    while draw.textlength(text, font) > width - 2 * _MARGIN:
        text = text[:-2] + "…"
    return text
