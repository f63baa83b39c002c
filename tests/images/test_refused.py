"""What the reader refuses, and by which code: missing, damaged, huge and unsupported pictures."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images.test_read import RNG, code_of, rgb, stored
from tudsr.errors import ImageError
from tudsr.images.read import read_image
from tudsr.images.scans import count_scans


@pytest.mark.parametrize("name", ["empty.png", "missing.png", "folder.png"])
def test_paths_that_hold_no_picture(tmp_path, name):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    codes = {"empty.png": "empty", "missing.png": "not_found", "folder.png": "not_readable"}
    assert code_of(tmp_path / name) == codes[name]


def test_a_text_file_named_png_is_not_an_image(tmp_path):
    (tmp_path / "text.png").write_text("not a picture, whatever its name says")
    assert code_of(tmp_path / "text.png") == "not_an_image"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.95])
def test_a_truncated_file_is_named_so(fmt, share):
    data = stored(Image.fromarray(rgb(64, 64)), fmt)
    assert code_of(data[: max(8, int(len(data) * share))]) == "truncated"


def test_a_truncated_16_bit_png_is_named_so():
    data = cv2.imencode(".png", RNG.integers(0, 65536, (64, 64, 3)).astype(np.uint16))[1].tobytes()
    assert code_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_a_picture_of_a_pixel_is_too_small(size):
    assert code_of(stored(Image.new("RGB", size), "PNG")) == "too_small"


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_pages_are_refused(fmt):
    frames = [Image.fromarray(rgb()) for _ in range(3)]
    data = stored(frames[0], fmt, save_all=True, append_images=frames[1:])
    assert code_of(data) == "animated"


def more_scans(data: bytes, count: int) -> bytes:
    """The last scan of a progressive JPEG again and again."""
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + data[-2:]


def test_a_jpeg_that_asks_for_thousands_of_passes_is_refused_before_any(tmp_path):
    usual = stored(Image.fromarray(rgb(64, 64)), "JPEG", progressive=True)
    assert 1 < count_scans(usual) < 20
    assert count_scans(more_scans(usual, 20)) == count_scans(usual) + 20
    (tmp_path / "many.jpg").write_bytes(more_scans(usual, 3000))
    for source in (more_scans(usual, 3000), tmp_path / "many.jpg"):
        assert code_of(source) == "too_large"


def test_scans_of_thumbnails_and_bytes_in_profiles_do_not_count():
    data = stored(Image.fromarray(rgb(64, 64)), "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 1000)
    assert count_scans(data) == 1
    assert read_image(data).size == (64, 64)


def test_a_phones_preview_picture_is_no_animation():
    shots = [Image.fromarray(rgb()) for _ in range(2)]
    picture = read_image(stored(shots[0], "MPO", save_all=True, append_images=shots[1:]))
    assert (picture.format, picture.size) == ("JPEG", (20, 30))


def test_a_header_that_claims_a_huge_size_is_refused_before_decoding():
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert code_of(bomb) == "too_large"
    small = stored(Image.new("RGB", (100, 100)), "PNG")
    assert code_of(small, max_pixels=9999) == "too_large"
    assert read_image(small, max_pixels=10000).size == (100, 100)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_that_cannot_be_kept_are_refused(mode):
    assert code_of(stored(Image.new(mode, (16, 16)), "TIFF")) == "unsupported_mode"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fmt=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"]),
    where=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=6),
)
def test_damage_anywhere_gives_a_picture_or_an_image_error(fmt, where, junk):
    data = bytearray(stored(Image.new("RGB", (16, 24), (10, 200, 30)), fmt))
    at = int(where * len(data))
    data[at : at + len(junk)] = junk
    try:
        picture = read_image(bytes(data), max_pixels=10**6)
    except ImageError as error:
        assert error.code
    else:
        assert np.isfinite(picture.pixels).all()
