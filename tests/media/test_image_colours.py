"""Colour profiles, transparency and depth, in every mode that a picture's file can have."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from alignvid.media.images import read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def profile(space: bytes, tags: dict[bytes, bytes], *, connection: bytes = b"XYZ ") -> bytes:
    """A small ICC profile of version 2, written by hand."""
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"test", 0x02200000, b"mntr", space, connection, b"\0" * 12, b"acsp")
    return head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061).ljust(60, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


SRGB_COLUMNS = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def swapped_rgb() -> bytes:
    """Its red is the green of sRGB and its green the red, so that a profile that is dropped cannot be overlooked."""
    red, green, blue = SRGB_COLUMNS
    curves = {name: gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return profile(b"RGB ", {b"rXYZ": xyz(*green), b"gXYZ": xyz(*red), b"bXYZ": xyz(*blue), **curves})


def linear_grey() -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(1.0)})


def black_only_cmyk() -> bytes:
    """Cyan, magenta and yellow print nothing; black prints black."""
    inputs, outputs = bytes(range(256)) * 4, bytes(range(256)) * 3
    grid = b"".join(struct.pack("3B", 0 if corner & 1 else 255, 128, 128) for corner in range(16))  # K varies fastest
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lookup = b"mft1\0\0\0\0" + struct.pack("4B", 4, 3, 2, 0) + identity + inputs + grid + outputs
    return profile(b"CMYK", {b"A2B0": lookup}, connection=b"Lab ")


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def png(depth: int, colour_type: int, row: bytes, transparent: bytes = b"") -> bytes:
    """A PNG of 32×32 pixels whose rows are equal, of a depth that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, depth, colour_type, 0, 0, 0))
    colour = chunk(b"tRNS", transparent) if transparent else b""
    return (
        b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress((b"\0" + row) * 32)) + chunk(b"IEND", b"")
    )


def first_pixel(path: Path) -> np.ndarray:
    return np.asarray(read_image(path).pixels)[0, 0].astype(int)


def green_in_swapped_rgb(mode: str) -> Image.Image:
    if mode == "P":
        return Image.new("RGB", (32, 32), (0, 255, 0)).quantize(4)
    return Image.new(mode, (32, 32), (0, 255, 0, 255)[: len(mode)])


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("RGB", "JPEG"),
        ("RGB", "TIFF"),
        ("RGBA", "TIFF"),
        ("RGB", "WEBP"),
        ("RGBA", "WEBP"),
        ("RGB", "AVIF"),
        ("RGBA", "AVIF"),
    ],
)
def test_a_colour_profile_is_honoured_in_every_mode_and_format(tmp_path, mode, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 100}
    path = saved(green_in_swapped_rgb(mode), tmp_path / "a", format=file_format, icc_profile=swapped_rgb(), **options)
    assert np.abs(first_pixel(path) - RED).max() <= 8  # the lossy formats' own error
    assert read_image(path).notes == ()


def test_a_palette_with_a_transparent_entry_keeps_profile_and_transparency(tmp_path):
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 255, 0, 0, 0, 255])
    image.paste(1, (16, 0, 32, 32))
    path = saved(image, tmp_path / "a.png", icc_profile=swapped_rgb(), transparency=1)
    pixels = read_image(path).pixels
    assert np.abs(np.subtract(pixels.getpixel((2, 2)), RED)).max() <= 3
    assert pixels.getpixel((30, 2)) == WHITE


def test_transparency_is_laid_on_the_white_of_srgb_after_the_profile(tmp_path):
    image = Image.new("RGBA", (32, 32), (0, 255, 0, 51))
    path = saved(image, tmp_path / "a.png", icc_profile=swapped_rgb())
    assert np.abs(first_pixel(path) - (255, 204, 204)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_the_profile_of_a_grey_picture_is_honoured(tmp_path, mode):
    image = Image.new(mode, (32, 32), (55, 255) if mode == "LA" else 55)
    path = saved(image, tmp_path / "a.png", icc_profile=linear_grey())
    expected = 255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055)  # the curve of sRGB
    assert np.abs(first_pixel(path) - expected).max() <= 3


def test_the_profile_of_sixteen_bit_grey_is_honoured(tmp_path):
    image = Image.fromarray(np.full((32, 32), 55 * 257, np.uint16))
    path = saved(image, tmp_path / "a.png", icc_profile=linear_grey())
    assert np.abs(first_pixel(path) - 128).max() <= 3


def test_a_profile_of_colours_on_a_grey_picture_is_honoured(tmp_path):
    """As several scanners write them: the curve is meant, equal red, green and blue stay grey."""
    path = saved(Image.new("L", (32, 32), 128), tmp_path / "a.png", icc_profile=swapped_rgb())
    assert np.ptp(first_pixel(path)) <= 1
    assert read_image(path).notes == ()


def test_the_profile_of_a_cmyk_picture_is_honoured(tmp_path):
    image = Image.new("CMYK", (32, 32), (255, 255, 255, 0))
    path = saved(image, tmp_path / "a.jpg", icc_profile=black_only_cmyk())
    assert first_pixel(path).min() >= 250  # without the profile it is black


@pytest.mark.parametrize(
    ("mode", "content"),
    [("RGB", b"no profile"), ("RGBA", b"no profile"), ("RGB", linear_grey()), ("RGB", swapped_rgb()[:150])],
)
def test_a_profile_that_cannot_be_used_is_said(tmp_path, mode, content):
    path = saved(Image.new(mode, (32, 32), "blue"), tmp_path / "a.png", icc_profile=content)
    reference = read_image(path)
    assert reference.pixels.getpixel((2, 2)) == (0, 0, 255)
    assert "a.png' has a colour profile that cannot be used; its colours are taken as sRGB." in reference.notes[0]


def test_an_embedded_srgb_changes_nothing_under_transparency(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (32, 32, 4)).astype(np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = read_image(saved(Image.fromarray(levels), tmp_path / "a.png")).pixels
    tagged = read_image(saved(Image.fromarray(levels), tmp_path / "b.png", icc_profile=srgb)).pixels
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(tagged)).max() <= 1


@pytest.mark.parametrize(
    ("content", "opaque"),
    [
        pytest.param(png(2, 0, b"\x55" * 4 + b"\xaa" * 4, b"\0\1"), 170, id="2-bit grey"),
        pytest.param(png(4, 0, b"\x33" * 8 + b"\x77" * 8, b"\0\3"), 119, id="4-bit grey"),
        pytest.param(png(8, 0, b"\x33" * 16 + b"\x77" * 16, b"\0\x33"), 119, id="8-bit grey"),
        pytest.param(png(16, 0, b"\x33\x44" * 16 + b"\x33\x45" * 16, b"\x33\x44"), 51, id="16-bit grey"),
        pytest.param(png(16, 2, b"\x33\x44" * 48 + b"\x77\x44" * 48, b"\x33\x44" * 3), 119, id="16-bit colour"),
        pytest.param(png(16, 4, b"\x33\x44\0\0" * 16 + b"\x33\x45\xff\xff" * 16), 51, id="16-bit grey with alpha"),
    ],
)
def test_one_transparent_colour_is_white_in_every_depth(tmp_path, content, opaque):
    (tmp_path / "a.png").write_bytes(content)
    pixels = read_image(tmp_path / "a.png").pixels
    assert pixels.getpixel((2, 2)) == WHITE
    assert pixels.getpixel((30, 2)) == (opaque,) * 3


def test_a_profile_and_an_exif_rotation_are_both_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(
        Image.new("RGBA", (64, 32), (0, 255, 0, 255)), tmp_path / "a.png", icc_profile=swapped_rgb(), exif=exif
    )
    reference = read_image(path)
    assert reference.pixels.size == (32, 64)
    assert np.abs(np.subtract(reference.pixels.getpixel((2, 2)), RED)).max() <= 3
