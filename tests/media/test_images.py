import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from alignvid.errors import InputError
from alignvid.media.images import fit_image, png_bytes, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 3, y * 3, x + y], -1).astype(np.uint8))


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing: a decompression bomb's header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_plain_png_is_read_unchanged(tmp_path):
    reference = read_image(saved(gradient(), tmp_path / "a.png"))
    assert np.array_equal(reference.pixels, gradient())
    assert reference.notes == ()


def test_the_pixel_digest_ignores_the_file_format(tmp_path):
    png, bmp = read_image(saved(gradient(), tmp_path / "a.png")), read_image(saved(gradient(), tmp_path / "a.bmp"))
    assert png.pixels_sha256 == bmp.pixels_sha256
    assert png.sha256 != bmp.sha256


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cat\.png' does not exist; give the path"):
        read_image(tmp_path / "cat.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_a_device_is_no_image():
    with pytest.raises(InputError, match="not a regular file"):
        read_image("/dev/zero")


def test_a_path_with_a_null_byte_is_refused():
    with pytest.raises(InputError):
        read_image("cat\0.png")


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"<svg viewBox='0 0 9 9'/>", b"%PDF-1.7"])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="is not an image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_an_image_cut_in_the_middle_is_refused(tmp_path, file_format):
    buffer = io.BytesIO()
    gradient(256, 256).save(buffer, format=file_format)
    (tmp_path / "a").write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    with pytest.raises(InputError, match=r"is damaged or cut short|is not an image"):
        read_image(tmp_path / "a")


def test_a_flipped_byte_in_a_png_is_refused(tmp_path):
    data = bytearray(png_bytes(gradient(256, 256)))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "a.png")


def test_one_pixel_is_too_small(tmp_path):
    with pytest.raises(InputError, match="1x1 pixels; at least 16x16"):
        read_image(saved(Image.new("RGB", (1, 1)), tmp_path / "a.png"))


def test_a_hundred_megapixels_are_refused_before_decoding(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header_only(10_000, 10_000))
    with pytest.raises(InputError, match=r"100\.0 megapixels; the limit is 50: .* --max-pixels 100000000"):
        read_image(tmp_path / "a.png")


def test_the_pixel_limit_can_be_lowered_and_raised(tmp_path):
    path = saved(gradient(64, 64), tmp_path / "a.png")
    with pytest.raises(InputError, match="limit"):
        read_image(path, max_pixels=4095)
    assert read_image(path, max_pixels=4096).pixels.size == (64, 64)


def test_a_limit_above_pillows_own_is_honoured(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header_only(20_000, 20_000))
    with pytest.raises(InputError, match="damaged"):  # and not: too large
        read_image(tmp_path / "a.png", max_pixels=500_000_000)


def test_pillows_own_limit_is_put_back(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    read_image(saved(gradient(), tmp_path / "a.png"))
    assert before == Image.MAX_IMAGE_PIXELS


def test_cmyk_becomes_rgb(tmp_path):
    reference = read_image(saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), tmp_path / "a.tif"))
    assert reference.pixels.getpixel((5, 5)) == RED


def test_a_palette_becomes_rgb(tmp_path):
    path = saved(Image.new("RGB", (32, 32), RED).quantize(8), tmp_path / "a.gif")
    assert read_image(path).pixels.getpixel((5, 5)) == RED


def test_a_palettes_transparent_entry_becomes_white(tmp_path):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert read_image(saved(image, tmp_path / "a.png", transparency=1)).pixels.getpixel((5, 5)) == WHITE


@pytest.mark.parametrize(("alpha", "expected"), [(255, (0, 0, 0)), (0, WHITE), (51, (204, 204, 204))])
def test_transparency_is_laid_on_white(tmp_path, alpha, expected):
    path = saved(Image.new("RGBA", (32, 32), (0, 0, 0, alpha)), tmp_path / "a.png")
    assert read_image(path).pixels.getpixel((5, 5)) == expected


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = np.asarray(read_image(saved(Image.fromarray(levels), tmp_path / "a.png")).pixels)
    assert np.abs(pixels[..., 0] - levels / 257).max() <= 0.5


def test_floating_point_levels_are_refused(tmp_path):
    path = saved(Image.fromarray(np.ones((32, 32), np.float32)), tmp_path / "a.tif")
    with pytest.raises(InputError, match="no defined range"):
        read_image(path)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken_with_a_note(tmp_path, file_format):
    later = [Image.new("RGB", (32, 32), color) for color in ("blue", "green")]
    options = {"save_all": True, "append_images": later, **({"lossless": True} if file_format == "WEBP" else {})}
    path = saved(Image.new("RGB", (32, 32), RED), tmp_path / f"a.{file_format.lower()}", **options)
    reference = read_image(path)
    assert reference.pixels.getpixel((5, 5)) == RED
    assert "has 3 frames; the first one" in reference.notes[0]


def test_an_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image = Image.new("RGB", (64, 32), "blue")
    image.paste(RED, (0, 0, 64, 8))
    pixels = read_image(saved(image, tmp_path / "a.png", exif=exif)).pixels
    assert pixels.size == (32, 64)
    assert pixels.getpixel((30, 5)) == RED


def test_an_embedded_profile_is_converted_to_srgb(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    reference = read_image(saved(gradient(), tmp_path / "a.png", icc_profile=profile))
    assert np.abs(np.asarray(reference.pixels).astype(int) - np.asarray(gradient())).max() <= 1


def test_a_damaged_profile_is_ignored(tmp_path):
    reference = read_image(saved(gradient(), tmp_path / "a.png", icc_profile=b"no profile"))
    assert np.array_equal(reference.pixels, gradient())


def test_fitting_crops_at_the_centre_and_does_not_stretch():
    image = Image.new("RGB", (300, 100), "blue")
    image.paste(RED, (100, 0, 200, 100))
    fitted = fit_image(image, 64, 64)
    assert fitted.size == (64, 64)
    assert fitted.getpixel((4, 32)) == RED
    assert fitted.getpixel((59, 32)) == RED


def test_fitting_to_its_own_size_changes_nothing():
    image = gradient(64, 64)
    assert fit_image(image, 64, 64) is image
