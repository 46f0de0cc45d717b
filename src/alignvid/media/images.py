"""Read a reference image, checked and in one form: upright 8-bit sRGB on white."""

import hashlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from alignvid.errors import InputError
from alignvid.files import sha256_of_bytes, sha256_of_file

MIN_SIDE = 16
"""Pixels; below it there is less than one patch of the smallest supported model."""

MAX_PIXELS = 50_000_000
"""Default limit on width x height, read from the header before anything is decoded."""

# What Pillow's decoders raise on damaged files, as met in its own bug reports.
_DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, OverflowError, struct.error, zlib.error)
_PAGED_FORMATS = {"MPO"}  # several frames that are not an animation: a phone's photo with its depth map
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


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ReferenceImage:
    """The reference image in a file, checked.

    Transparency is laid on white, 16-bit grey is scaled (not clipped) to 8 bits, an embedded colour profile is
    converted to sRGB, an EXIF rotation is applied, and of an animation the first frame is taken, with a note.

    Raises: InputError if there is no such file, it is no image, is damaged, too small or above `max_pixels`.
    """
    path = Path(path)
    _check_is_file(path)
    return _decode(path, path, sha256_of_file(path), max_pixels)


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> ReferenceImage:
    """`read_image` of a file's bytes; the name is for messages."""
    return _decode(io.BytesIO(content), Path(name), sha256_of_bytes(content), max_pixels)


def _decode(source: Path | io.BytesIO, path: Path, sha256: str, max_pixels: int) -> ReferenceImage:
    with _pillow_limit_lifted(), _damage_as_input_error(path), Image.open(source) as opened:
        _check_size(path, opened.size, max_pixels)
        notes = _animation_note(path, opened)
        opened.load()
        pixels = to_rgb(_upright(opened))
    return ReferenceImage(path=path, pixels=pixels, sha256=sha256, notes=notes)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; transparency is laid on white.

    Raises: ValueError if the mode has no defined range (32-bit float, or integers outside 0..65535).
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _grey16_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return _profile_to_srgb(image) or image.convert("RGB")


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


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera's EXIF entry says; a damaged entry turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        return image.copy()


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if image.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its values have no defined range, save it with 8 or 16 bits a channel")
    grey = np.round(levels.astype(np.float64) / 257).astype(np.uint8)  # 65535 / 255 = 257
    return Image.fromarray(grey).convert("RGB")


def _profile_to_srgb(image: Image.Image) -> Image.Image | None:
    """The image in sRGB if it carries a usable colour profile, else None."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *_DAMAGE):
        return None


@contextmanager
def _damage_as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image this can read; save it as PNG, JPEG, WebP or TIFF.") from error
    except _DAMAGE as error:
        raise InputError(
            f"Image {str(path)!r} is damaged or cut short ({error}); save it again as PNG or JPEG."
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
