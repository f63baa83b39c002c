"""Reading, checked against Pillow, against files built by hand, and with broken input."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from tests.images.profiles import profile
from tudsr.errors import ImageError
from tudsr.images.formats import sample_bits
from tudsr.images.read import read_header, read_image

RNG = np.random.default_rng(0)


def stored(image: Image.Image, fmt: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def rgb(height=20, width=30) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def code_of(source, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    assert str(caught.value)
    return caught.value.code


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "BMP"])
def test_lossless_rgb_is_read_as_stored(fmt):
    pixels = rgb()
    picture = read_image(stored(Image.fromarray(pixels), fmt))
    assert (picture.pixels * 255 == pixels).all()
    assert picture.pixels.dtype == np.float32
    assert (picture.alpha, picture.depth, picture.format) == (None, 8, fmt)


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP"])
def test_lossy_formats_equal_pillows_decoding(fmt):
    data = stored(Image.fromarray(rgb()), fmt)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (np.rint(read_image(data).pixels * 255) == expected).all()


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_has_three_equal_channels(mode):
    pixels = read_image(stored(Image.fromarray(rgb()).convert(mode), "PNG")).pixels
    assert (pixels[:, :, 0] == pixels[:, :, 1]).all()
    assert (pixels[:, :, 0] == pixels[:, :, 2]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept(mode):
    alpha = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    image = Image.fromarray(rgb()).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    picture = read_image(stored(image, "PNG"))
    assert (np.rint(picture.alpha * 255) == alpha).all()


def test_palette_with_transparency_keeps_colours_and_alpha():
    image = Image.new("P", (30, 20), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.paste(0, (0, 0, 10, 20))
    picture = read_image(stored(image, "PNG", transparency=0))
    assert (picture.alpha[:, :10] == 0).all()
    assert (picture.alpha[:, 10:] == 1).all()
    assert (picture.pixels[:, 10:] == [0, 1, 0]).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_all_kept(suffix, channels):
    samples = RNG.integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    bgr = samples[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else samples
    picture = read_image(cv2.imencode(suffix, bgr)[1].tobytes())
    assert picture.depth == 16
    assert (np.rint(picture.pixels * 65535) == samples[:, :, :3]).all()
    if channels == 4:
        assert (np.rint(picture.alpha * 65535) == samples[:, :, 3]).all()


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(fmt, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    data = stored(Image.fromarray(rgb(16, 40)), fmt, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture = read_image(data)
    assert (np.rint(picture.pixels * 255) == np.asarray(expected)).all()
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(0x0112, 1) == 1
    assert kept[0x010F] == "Maker"


@pytest.mark.parametrize("fmt", ["AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_of_phone_formats_is_applied_once(fmt, orientation):
    """They have boxes for it, irot and imir; in HEIF the tag stays beside them."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    quarters = np.array([[[200, 0, 0], [255] * 3], [[0] * 3, [0, 0, 200]]], np.uint8)
    stored_pixels = quarters.repeat(16, 0).repeat(32, 1)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    data = stored(Image.fromarray(stored_pixels), fmt, exif=exif.tobytes(), quality=100)
    png = stored(Image.fromarray(stored_pixels), "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(png))))
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    picture = read_image(data)
    assert picture.size == read_header(data).size == upright.shape[:2]
    assert np.abs(picture.pixels * 255 - upright).mean() < 4
    kept = Image.Exif()
    kept.load(picture.exif)
    assert (kept.get(0x0112, 1), kept[0x010F]) == (1, "Maker")


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_pictures_is_applied_once(fmt, orientation):
    grey = RNG.integers(0, 65536, (16, 40)).astype(np.uint16)
    tag = Image.Exif()
    tag[0x0112] = orientation
    options = {"exif": tag} if fmt == "PNG" else {"tiffinfo": {0x0112: orientation}}
    picture = read_image(stored(Image.fromarray(grey), fmt, **options))
    high = with_tag(Image.fromarray((grey >> 8).astype(np.uint8)), orientation)
    assert picture.depth == 16
    got = np.rint(picture.pixels[:, :, 0] * 65535).astype(int) >> 8
    assert (got == np.asarray(ImageOps.exif_transpose(high))).all()


def with_tag(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[0x0112] = orientation
    return image


def test_what_people_wrote_is_kept_and_what_the_old_file_was_goes():
    exif = Image.Exif()
    exif[40091], exif[18246] = "a title".encode("utf-16-le"), 4
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 40962: 16, 40963: 16}
    kept = Image.Exif()
    kept.load(read_image(stored(Image.fromarray(rgb(16, 16)), "JPEG", exif=exif)).exif)
    assert (kept[18246], dict(kept.get_ifd(0x8769))) == (4, {0x9003: "2020:01:01 00:00:00"})
    assert bytes(kept[40091]).decode("utf-16-le") == "a title"


def test_profile_and_camera_tags_are_kept():
    exif = Image.Exif()
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    picture = read_image(stored(Image.fromarray(rgb()), "JPEG", exif=exif, icc_profile=SRGB))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert picture.icc == SRGB
    assert kept.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert kept.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("fmt", ["AVIF", "HEIF"])
def test_phone_formats_are_read_with_alpha_profile_and_metadata(fmt):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = np.zeros((32, 48, 4), np.uint8)
    pixels[:16, :, 0], pixels[:, :24, 3] = 200, 255
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = stored(Image.fromarray(pixels), fmt, quality=100, exif=exif, icc_profile=SRGB)
    picture = read_image(data)
    assert (picture.format, picture.icc, picture.depth) == (fmt, SRGB, 8)
    assert np.abs(picture.alpha - pixels[:, :, 3] / 255).mean() < 0.02
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x010F] == "Maker"


def test_ten_bits_are_not_cut_to_eight_unasked():
    pillow_heif = pytest.importorskip("pillow_heif")
    deep, stream = pillow_heif.from_bytes("RGB;16", (32, 32), bytes(32 * 32 * 6)), io.BytesIO()
    deep.save(stream, bit_depth=10)
    assert code_of(stream.getvalue()) == "unsupported_mode"
    avif = stored(Image.fromarray(rgb(32, 32)), "AVIF")
    at = avif.find(b"av1C") + 6
    assert sample_bits(avif, "AVIF") == 8
    assert sample_bits(avif[:at] + bytes([avif[at] | 0x40]) + avif[at + 1 :], "AVIF") == 10


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    from tudsr.images import formats

    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    formats.readable.cache_clear()
    with pytest.raises(ImageError, match=r"install -e .\.\[heic\]"):
        read_image(bytes(4) + b"ftypheic" + bytes(100))
    formats.readable.cache_clear()


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_is_kept_and_its_turn_is_taken_out(fmt):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">\xc3\xa9</x:xmpmeta>'
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode())
    options = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: packet}}}
    data = stored(Image.fromarray(rgb(32, 32)), fmt, **options.get(fmt, {"xmp": packet}))
    assert read_image(data).xmp == packet.replace(b'"6"', b'"1"')


def test_a_resolution_is_kept_and_an_impossible_one_is_not():
    assert read_image(stored(Image.fromarray(rgb()), "JPEG", dpi=(300, 150))).dpi == (300, 150)
    assert read_image(stored(Image.fromarray(rgb()), "JPEG")).dpi is None
    nothing = stored(Image.fromarray(rgb()), "TIFF", dpi=(300, 300))
    at = nothing.find(struct.pack("<HHL", 282, 5, 1))
    where = struct.unpack_from("<L", nothing, at + 8)[0]
    assert read_image(nothing[:where] + bytes(8) + nothing[where + 8 :]).dpi is None


def test_cmyk_is_refused_without_a_profile_and_with_a_wrong_one():
    image = Image.fromarray(rgb()).convert("CMYK")
    assert code_of(stored(image, "JPEG")) == "cmyk"
    assert code_of(stored(image, "TIFF", icc_profile=SRGB)) == "cmyk"


def cmyk_profile() -> bytes:
    """A minimal ICC v2 printer profile of neutral inks: 2 grid points, black ink K sets L*."""
    identity = bytes(range(256))
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    clut = b"".join(
        bytes([round(255 * (1 - k) * (1 - (c + m + y) / 3)), 128, 128]) for c, m, y, k in corners
    )
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + clut + identity * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def test_cmyk_goes_through_its_profile():
    """Half black ink is L* = 50 here: Y = ((50 + 16) / 116)³ = 0.184, in sRGB 0.466."""
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 128))
    picture = read_image(stored(image, "TIFF", icc_profile=cmyk_profile()))
    assert picture.icc is None
    assert picture.pixels.mean((0, 1)) == pytest.approx([0.466] * 3, abs=0.01)


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF", "PNG"])
def test_the_header_alone_tells_the_upright_size(fmt):
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.new("RGB", (40, 20)).save(stream, fmt, exif=exif)
    header = read_header(stream.getvalue())
    assert (header.size, header.format, header.transparent) == ((40, 20), fmt, False)
    assert read_image(stream.getvalue()).size == header.size
