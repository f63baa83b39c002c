"""Writing: what comes back, and what happens where nothing can be written."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from tudsr.errors import ImageError
from tudsr.images.picture import Picture
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.images.write import (
    check_fits,
    encode_image,
    encode_rows,
    format_of,
    write_image,
    write_rows,
)

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF tiff:Orientation="1"/></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_picture(depth=8, alpha=False, height=20, width=30) -> Picture:
    rng = np.random.default_rng(depth)
    top = 2**depth - 1
    samples = (rng.integers(0, top + 1, (height, width, 4)) / top).astype(np.float32)
    exif = Image.Exif()
    exif[271], exif[0x8769], exif[0x8825] = "Maker", {36867: "2020:01:01 00:00:00"}, {1: "N"}
    return Picture(samples[:, :, :3], samples[:, :, 3] if alpha else None, depth, ICC,
                   exif.tobytes(), XMP, (300.0, 150.0))  # fmt: skip


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_round_trip_keeps_everything(fmt, depth, alpha):
    picture = random_picture(depth, alpha)
    back = read_image(encode_image(picture, fmt))
    assert (back.pixels == picture.pixels).all()
    assert (back.alpha is None) == (not alpha)
    if alpha:
        assert (back.alpha == picture.alpha).all()
    assert (back.depth, back.icc, back.format) == (depth, ICC, fmt)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("depth", [8, 16])
def test_profile_and_metadata_survive_every_format(fmt, depth):
    data = encode_image(random_picture(depth).signed("tudsr, x8"), fmt)
    with Image.open(io.BytesIO(data)) as image:  # what another program sees
        image.load()
        exif = image.getexif()
        assert image.info["icc_profile"] == ICC
        assert (exif[0x0131], exif[271]) == ("tudsr, x8", "Maker")
        assert exif.get_ifd(0x8769)[36867] == "2020:01:01 00:00:00"
        assert exif.get_ifd(0x8825)[1] == "N"
        if fmt in ("PNG", "TIFF", "JPEG"):
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        else:  # their one place for it
            assert (exif[282], exif[283], exif[296]) == (300, 150, 2)
    assert read_image(data).xmp == XMP


@pytest.mark.parametrize("fmt", ["WEBP", "AVIF"])
def test_a_resolution_alone_makes_a_block_and_none_makes_none(fmt):
    for dpi, tags in (((300.0, 150.0), {282: 300, 283: 150, 296: 2}), (None, {})):
        data = encode_image(replace(random_picture().stripped(), dpi=dpi), fmt)
        with Image.open(io.BytesIO(data)) as image:
            assert dict(image.getexif()) == tags


@pytest.mark.parametrize(
    ("fmt", "alpha"),
    [("JPEG", False), *((f, a) for f in ("PNG", "TIFF", "WEBP", "AVIF") for a in (False, True))],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_has_one_channel_where_the_format_can(fmt, depth, alpha):
    made = random_picture(depth, alpha)
    grey = replace(made, pixels=made.pixels[:, :, [0, 0, 0]], icc=None, grey=True)
    data = encode_image(grey, fmt)
    with Image.open(io.BytesIO(data)) as image:
        one = {"L", "LA", "I;16"} | ({"RGBA"} if fmt == "PNG" and depth == 16 else set())
        as_grey = fmt in ("PNG", "TIFF", "JPEG") and not (fmt == "TIFF" and alpha and depth == 16)
        assert (image.mode in one) == as_grey
    back = read_image(data)
    assert back.grey == as_grey and (back.alpha is not None) == alpha
    assert np.ptp(back.pixels, axis=2).max() <= (1.01 / 255 if fmt == "WEBP" else 0)
    if fmt in ("PNG", "TIFF"):
        assert (back.pixels == grey.pixels).all()


def test_grey_with_a_profile_of_rgb_is_written_as_rgb():
    made = random_picture()
    grey = replace(made, pixels=made.pixels[:, :, [0, 0, 0]], grey=True)
    back = read_image(encode_image(grey, "PNG"))
    assert (back.grey, back.icc) == (False, ICC)


def test_stripped_keeps_the_profile_alone():
    data = encode_image(random_picture().stripped(), "PNG")
    back = read_image(data)
    assert (back.exif, back.xmp, back.dpi) == (None, None, None)
    assert back.icc == ICC


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("depth", [8, 16])
def test_bytes_do_not_depend_on_the_groups_of_rows_and_other_programs_read_them(fmt, depth):
    import cv2

    picture = random_picture(depth, height=150)
    rows = picture.pixels
    made = io.BytesIO()
    encode_rows((rows[i : i + 64] for i in (0, 64, 128)), (150, 30), picture, fmt, made)
    assert made.getvalue() == encode_image(picture, fmt)
    theirs = cv2.imdecode(np.frombuffer(made.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    top = 2**depth - 1
    np.testing.assert_array_equal(theirs[:, :, ::-1], np.rint(rows * top))


def test_rows_that_break_off_leave_what_was_there(tmp_path):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def broken():
        yield np.zeros((4, 30, 3), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(broken(), (20, 30), random_picture(), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_16_bit_tiff_is_what_opencv_reads():
    import cv2

    picture = random_picture(16, alpha=True)
    raw = cv2.imdecode(np.frombuffer(encode_image(picture, "TIFF"), np.uint8), -1)
    assert raw.dtype == np.uint16
    assert (raw[:, :, 2] == np.rint(picture.pixels[:, :, 0] * 65535)).all()


def test_values_are_clipped_and_rounded_to_nearest():
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    pixels[0, 0], pixels[0, 1] = -0.2, 1.7
    back = np.asarray(Image.open(io.BytesIO(encode_image(Picture(pixels), "PNG"))))
    assert (back[0, 0] == 0).all()
    assert (back[0, 1] == 255).all()
    assert (back[1:] == 128).all()


def test_an_opaque_alpha_fits_in_a_jpeg_and_a_transparent_one_does_not():
    pixels, ones = np.zeros((8, 8, 3), np.float32), np.ones((8, 8), np.float32)
    encode_image(Picture(pixels, ones), "JPEG")
    with pytest.raises(ImageError, match="PNG"):
        encode_image(Picture(pixels, ones * 0.5), "JPEG")


def test_what_a_format_cannot_hold_is_known_beforehand():
    for fmt, side in (("WEBP", 16384), ("JPEG", 65501)):
        check_fits(fmt, 8, side - 1)
        with pytest.raises(ImageError, match=str(side - 1)):
            check_fits(fmt, 8, side)
    check_fits("PNG", 8, 100_000)


def test_not_a_number_is_refused():
    pixels = np.zeros((8, 8, 3), np.float32)
    pixels[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match="finite"):
        encode_image(Picture(pixels), "PNG")


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    assert format_of(tmp_path / "a.JPG") == "JPEG"
    with pytest.raises(ImageError, match=r"\.png"):
        write_image(random_picture(), tmp_path / "a.gif")


def test_a_folder_that_cannot_be_made_gives_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match="cannot write") as caught:
        write_image(random_picture(), tmp_path / "file" / "out.png")
    assert caught.value.code == "not_writable"
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    """RLIMIT_FSIZE makes every write past 4 kB fail, as a full disk does."""
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    script = f"""
import resource, numpy as np
from pathlib import Path
from tudsr.errors import ImageError
from tudsr.images.picture import Picture
from tudsr.images.write import write_image
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
noise = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
try:
    write_image(Picture(noise), Path({str(target)!r}))
except ImageError as error:
    print(error.code, error)
"""
    # -B: bytecode cut off at the limit would stay.
    command = [sys.executable, "-B", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("not_writable cannot write"), done.stderr
    assert str(target) in done.stdout
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_client_chooses_quality_and_level():
    smooth = Picture(bicubic_resize(random_picture(height=4, width=4).pixels, 256, 256))
    for fmt, name, better in [
        ("JPEG", "quality", 1),
        ("WEBP", "quality", 1),
        ("PNG", "png_level", -1),
    ]:
        low, high = (len(encode_image(smooth, fmt, **{name: level})) for level in (1, 9))
        assert (high - low) * better > 0, fmt
    deep = Picture(smooth.pixels, depth=16)
    assert len(encode_image(deep, "PNG", png_level=0)) > len(encode_image(deep, "PNG", png_level=9))
