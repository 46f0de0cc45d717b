"""Files that are really damaged, of every format: each is one sentence or a picture, and nothing else."""

import io
import random
import re
import signal

import numpy as np
import pytest
from PIL import Image, ImageCms

from alignvid.errors import InputError
from alignvid.media.images import decode_image, read_image

DAMAGED_PER_KIND = 40
SECONDS_PER_KIND = 60


def photo(mode: str = "RGB", side: int = 64) -> Image.Image:
    y, x = np.mgrid[:side, :side]
    noise = np.random.default_rng(0).integers(0, 40, (side, side))
    picture = Image.fromarray(np.stack([x * 3 + noise, y * 3, x + y], -1).clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((x * 1000 + y).astype(np.uint16))
    return picture.quantize(32) if mode == "P" else picture.convert(mode)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    return exif


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = {
    "PNG": ("RGB", "PNG", {}),
    "PNG with alpha and a profile": ("RGBA", "PNG", {"icc_profile": SRGB}),
    "PNG of a palette with transparency": ("P", "PNG", {"transparency": bytes(range(32))}),
    "PNG of 16 bits": ("I;16", "PNG", {}),
    "PNG with EXIF": ("RGB", "PNG", {"exif": turned()}),
    "animated PNG": ("RGB", "PNG", {"save_all": True, "append_images": [photo().rotate(90)]}),
    "JPEG": ("RGB", "JPEG", {"exif": turned(), "icc_profile": SRGB}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "JPEG of CMYK": ("CMYK", "JPEG", {}),
    "JPEG of grey": ("L", "JPEG", {}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    "WebP": ("RGB", "WEBP", {"exif": turned()}),
    "WebP without loss, with alpha": ("RGBA", "WEBP", {"lossless": True}),
    "AVIF": ("RGB", "AVIF", {"exif": turned()}),
    "AVIF with alpha": ("RGBA", "AVIF", {}),
    "GIF": ("P", "GIF", {"save_all": True, "append_images": [photo("P").rotate(90)]}),
    "TIFF": ("RGB", "TIFF", {"exif": turned()}),
    "TIFF of LZW": ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
    "TIFF of 16 bits": ("I;16", "TIFF", {"compression": "tiff_deflate"}),
    "TIFF of CMYK": ("CMYK", "TIFF", {}),
    "BMP": ("RGB", "BMP", {}),
    "BMP of a palette": ("P", "BMP", {}),
    "TGA": ("RGBA", "TGA", {"compression": "tga_rle"}),
    "ICO": ("RGBA", "ICO", {}),
    "ICNS": ("RGBA", "ICNS", {}),
    "PPM": ("RGB", "PPM", {}),
    "PCX": ("RGB", "PCX", {}),
    "SGI": ("RGB", "SGI", {}),
    "DDS": ("RGBA", "DDS", {}),
    "QOI": ("RGB", "QOI", {}),
}


def encoded(kind: str) -> bytes:
    mode, file_format, options = KINDS[kind]
    buffer = io.BytesIO()
    photo(mode).save(buffer, format=file_format, **options)
    return buffer.getvalue()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut short, bytes changed, a piece gone, doubled or blank; near the header as often as elsewhere."""
    data = bytearray(content)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 200)
    at = rng.randrange(reach)
    match rng.choice(("cut", "flip", "flip many", "lengths", "drop", "repeat", "zero")):
        case "cut":
            del data[at:]
        case "flip":
            data[at] ^= 1 << rng.randrange(8)
        case "flip many":
            for _ in range(rng.randrange(2, 30)):
                data[rng.randrange(reach)] = rng.randrange(256)
        case "lengths":
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        case "drop":
            del data[at : at + rng.randrange(1, 40)]
        case "repeat":
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        case "zero":
            data[at : at + 40] = bytes(len(data[at : at + 40]))
    return bytes(data)


@pytest.fixture
def alarm():
    """A decoder that never ends is a failure and not a test that never ends."""

    def ring(*_):
        raise AssertionError(f"no picture was read for {SECONDS_PER_KIND} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS_PER_KIND)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read(kind):
    width, height = decode_image(encoded(kind), "a").pixels.size
    assert width == height >= 64  # an ICNS holds larger copies, too


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_sentence_or_a_picture(kind, alarm):
    whole, rng = encoded(kind), random.Random(kind)
    refused = 0
    for _ in range(DAMAGED_PER_KIND):
        content = damaged(whole, rng)
        try:
            assert decode_image(content, "cat.png").pixels.mode == "RGB"
        except InputError as error:
            refused += 1
            assert re.match(r"(Image )?'cat\.png' (is|has) ", str(error)), error
            assert "\n" not in str(error)
    assert refused > 0


def test_a_damaged_avif_is_refused():
    """Its decoder raises RuntimeError, unlike all the others."""
    whole, causes = encoded("AVIF"), set()
    for at in range(0, len(whole), 7):
        try:
            decode_image(whole[:at] + bytes(20) + whole[at + 20 :], "a.avif")
        except InputError as error:
            causes.add(type(error.__cause__))
    assert RuntimeError in causes


def test_an_error_that_no_decoder_of_today_raises_is_refused(tmp_path, monkeypatch):
    def fail(self):
        raise NotImplementedError("version 9 of the format\nis not supported")

    photo().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(InputError, match=r"a\.png' is damaged or cut short \(version 9 of the format is not supported"):
        read_image(tmp_path / "a.png")


def test_a_ctrl_c_while_decoding_is_no_damage(tmp_path, monkeypatch):
    def stop(self):
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("the decoder was closed")

    photo().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", stop)
    with pytest.raises(KeyboardInterrupt):
        read_image(tmp_path / "a.png")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied")

    photo().save(tmp_path / "a.png")
    monkeypatch.setattr("alignvid.media.images.sha256_of_file", forbid)
    with pytest.raises(InputError, match="Permission denied"):
        read_image(tmp_path / "a.png")
