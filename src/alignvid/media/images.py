"""Read a reference image, checked and in one form: upright 8-bit sRGB on white."""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from alignvid.errors import InputError, pass_on_interrupt
from alignvid.files import sha256_of_bytes, sha256_of_file

MIN_SIDE = 16
"""Pixels; below it there is less than one patch of the smallest supported model."""

MAX_PIXELS = 50_000_000
"""Default limit on width x height, read from the header before anything is decoded."""

_PAGED_FORMATS = {"MPO"}  # several frames that are not an animation: a phone's photo with its depth map
_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""From one level to the next where a PNG's grey of few bits is spread over 8."""
_GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"}
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class ReferenceImage:
    """A reference image as the pipelines get it."""

    path: Path
    """Where it was read from."""
    pixels: Image.Image
    """Upright RGB, 8 bits a channel; transparency is laid on white."""
    sha256: str
    """Of the file's bytes."""
    notes: tuple[str, ...]
    """What was changed on the way and could surprise, one sentence each."""

    @property
    def pixels_sha256(self) -> str:
        """Of the decoded pixels and their size: equal for two files that show the same."""
        return hashlib.sha256(repr(self.pixels.size).encode() + self.pixels.tobytes()).hexdigest()


class _Profile(NamedTuple):
    """How to come from an image's own colours to sRGB."""

    transform: ImageCms.ImageCmsTransform
    mode: str
    """Of Pillow, that the transform takes."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ReferenceImage:
    """The reference image in a file, checked.

    Transparency is laid on white, 16-bit grey is scaled (not clipped) to 8 bits, an embedded colour profile is
    converted to sRGB in every mode, an EXIF rotation is applied. Notes say where of an animation the first frame is
    taken, and where a profile cannot be used.

    Raises: InputError if there is no such file, it is no image, is damaged, too small or above `max_pixels`.
    """
    path = Path(path)
    _check_is_file(path)
    with _damage_as_input_error(path):
        sha256 = sha256_of_file(path)
    return _decode(path, path, sha256, max_pixels)


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> ReferenceImage:
    """`read_image` of a file's bytes; the name is for messages."""
    return _decode(io.BytesIO(content), Path(name), sha256_of_bytes(content), max_pixels)


def _decode(source: Path | io.BytesIO, path: Path, sha256: str, max_pixels: int) -> ReferenceImage:
    with _pillow_limit_lifted(), _damage_as_input_error(path), Image.open(source) as opened:
        _check_size(path, opened.size, max_pixels)
        notes = _animation_note(path, opened) + _profile_note(path, opened)
        _scale_transparent_colour(opened)
        opened.load()
        pixels = to_rgb(_upright(opened))
    return ReferenceImage(path=path, pixels=pixels, sha256=sha256, notes=notes)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit sRGB; an embedded colour profile is honoured, and transparency is laid on white.

    Raises: ValueError if the mode has no defined range (32-bit float, or integers outside 0..65535).
    """
    profile = _profile_of(image)
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _grey16_to_8(image)
    if not image.has_transparency_data:
        return _to_srgb(image, profile)
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    return Image.composite(_to_srgb(rgba.convert("RGB"), profile), white, rgba.getchannel("A"))


def fit_image(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image at exactly this size: cropped at the centre to the shape asked for, never stretched."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _check_is_file(path: Path) -> None:
    name = str(path)
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"Image {name!r} cannot be opened: {error}; give the path of a picture.") from error
    if not exists:
        raise InputError(f"Image {name!r} does not exist; give the path of a PNG, JPEG, WebP or TIFF file.")
    if is_folder:
        raise InputError(f"Image {name!r} is a folder; give the path of one picture in it.")
    if not is_file:
        raise InputError(f"Image {name!r} is not a regular file; give the path of a picture.")


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise InputError(
            f"Image {str(path)!r} is {width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed, "
            "give a larger picture."
        )
    if width * height > max_pixels:
        raise InputError(
            f"Image {str(path)!r} is {width}x{height}, {width * height / 1e6:.1f} megapixels; the limit is "
            f"{max_pixels / 1e6:g}: make it smaller, or raise the limit with --max-pixels {width * height}."
        )


def _animation_note(path: Path, image: Image.Image) -> tuple[str, ...]:
    frame_count = getattr(image, "n_frames", 1)
    if frame_count == 1 or image.format in _PAGED_FORMATS:
        return ()
    return (f"Image {str(path)!r} has {frame_count} frames; the first one is the reference.",)


def _profile_note(path: Path, image: Image.Image) -> tuple[str, ...]:
    if not image.info.get("icc_profile") or _profile_of(image):
        return ()
    return (f"Image {str(path)!r} has a colour profile that cannot be used; its colours are taken as sRGB.",)


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """Pillow gives the one transparent colour of a PNG in the depth of the file, and the pixels in 8 bits."""
    colour = image.info.get("transparency")
    depth = str(image.tile[0].args) if image.tile else ""
    if depth in _GREY_STEPS and isinstance(colour, int):
        image.info["transparency"] = colour * _GREY_STEPS[depth]
    elif depth == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in colour)  # as Pillow's decoder does with pixels


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera's EXIF entry says; a damaged entry turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        pass_on_interrupt(error)
        return image.copy()


def _grey16_to_8(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits as 8; with an alpha channel where one level is transparent."""
    levels = np.asarray(image)
    if image.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its values have no defined range, save it with 8 or 16 bits a channel")
    grey = Image.fromarray(np.round(levels.astype(np.float64) / 257).astype(np.uint8))  # 65535 / 255 = 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


def _profile_of(image: Image.Image) -> _Profile | None:
    """The way from the embedded colour profile to sRGB, if there is a profile that fits the image's mode."""
    if not image.info.get("icc_profile"):
        return None
    modes = {"CMYK": ("CMYK",), "LAB": ("LAB",)}.get(
        image.mode, ("L", "RGB") if image.mode in _GREY_MODES else ("RGB",)
    )
    for mode in modes:
        try:
            source, target = io.BytesIO(image.info["icc_profile"]), ImageCms.createProfile("sRGB")
            return _Profile(ImageCms.buildTransform(source, target, mode, "RGB"), mode)
        except Exception as error:  # bytes that are no profile, or one of other colours
            pass_on_interrupt(error)
    return None


def _to_srgb(image: Image.Image, profile: _Profile | None) -> Image.Image:
    """An image without transparency, from the colours of its profile to sRGB; as it is without a profile."""
    if profile is None:
        return image.convert("RGB")
    return profile.transform.apply(image.convert(profile.mode))


@contextmanager
def _damage_as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image this can read; save it as PNG, JPEG, WebP or TIFF.") from error
    except Exception as error:  # each of Pillow's decoders has its own, such as SyntaxError or RuntimeError
        pass_on_interrupt(error)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"Image {str(path)!r} is damaged or cut short ({reason}); save it again as PNG or JPEG."
        ) from error


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Our own limit is checked before decoding and can be raised; Pillow's is global, no argument."""
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata, which is dropped anyway
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
