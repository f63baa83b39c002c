"""What is decoded in bands is what Pillow decodes whole, and nothing else is given to libvips."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import scene
from tudsr.errors import ImageError
from tudsr.images import canvas
from tudsr.images.decode import held_bytes, is_streamed
from tudsr.images.read import open_image, read_image

ROOT = Path(__file__).resolve().parents[2]
RGB = scene(0, 203)[:, :150]
RGBA = np.dstack([RGB, np.random.default_rng(0).integers(0, 256, RGB.shape[:2], dtype=np.uint8)])
DEEP = np.random.default_rng(1).integers(0, 65536, (40, 50, 3)).astype(np.uint16)


def stored(image: Image.Image, fmt: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def tiff(samples: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="rgb", **options)
    return stream.getvalue()


def of_modes() -> dict[str, bytes]:
    rgb, rgba = Image.fromarray(RGB), Image.fromarray(RGBA)
    palette = rgb.quantize(64)
    return {
        **{f"jpeg {q} {s}": stored(rgb, "JPEG", quality=q, subsampling=s)
           for q in (60, 95) for s in (0, 1, 2)},
        "jpeg grey": stored(rgb.convert("L"), "JPEG"),
        "jpeg progressive": stored(rgb, "JPEG", progressive=True),
        **{f"png {m}": stored(rgba.convert(m), "PNG") for m in ("1", "L", "LA", "RGB", "RGBA")},
        "png palette": stored(palette, "PNG"),
        "png palette, alpha": stored(palette, "PNG", transparency=bytes(range(64))),
        "png palette of 4 bits": stored(rgb.quantize(9), "PNG", bits=4),
        "png one colour clear": stored(rgb, "PNG", transparency=tuple(RGB[3, 4].tolist())),
        "png one grey clear": stored(rgb.convert("L"), "PNG", transparency=100),
        **{f"tiff {m}": stored(rgba.convert(m), "TIFF") for m in ("1", "L", "LA", "RGB", "RGBA")},
        **{f"tiff {c}": stored(rgb, "TIFF", compression=c)
           for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")},
        "tiff group 4": stored(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff white is 0": stored(rgb.convert("L"), "TIFF", tiffinfo={262: 0}),
        "tiff palette": stored(palette, "TIFF"),
        "tiff tiles": tiff(RGB, tile=(64, 64), compression="zlib", predictor=True),
        "tiff planes": tiff(RGB.transpose(2, 0, 1).copy(), planarconfig="separate"),
        "tiff one strip": tiff(RGB, rowsperstrip=len(RGB), compression="zlib"),
    }  # fmt: skip


@pytest.mark.parametrize(("name", "data"), of_modes().items(), ids=list(of_modes()))
def test_the_samples_are_pillows(name, data):
    with Image.open(io.BytesIO(data)) as image:
        assert is_streamed(image)
        expected = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    picture = read_image(data)
    assert (np.rint(picture.pixels * 255) == expected[:, :, :3]).all()
    assert (picture.alpha is not None) == (expected.shape[2] == 4)
    if picture.alpha is not None:
        assert (np.rint(picture.alpha * 255) == expected[:, :, 3]).all()


def test_what_was_stored_without_colours_is_known():
    rgb = Image.fromarray(RGB)
    for mode in ("1", "L", "LA", "I;16"):
        image = Image.fromarray(DEEP[:, :, 0].copy()) if mode == "I;16" else rgb.convert(mode)
        for fmt in ("PNG", "TIFF"):
            assert read_image(stored(image, fmt)).grey, (mode, fmt)
    for data in (stored(rgb.convert("L"), "JPEG"), stored(rgb.convert("L"), "BMP"),
                 stored(rgb.convert("L"), "PNG", transparency=100)):  # fmt: skip
        assert read_image(data).grey
    for data in (stored(rgb, "PNG"), stored(rgb.quantize(9), "PNG"), stored(rgb, "WEBP")):
        assert not read_image(data).grey


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (16, 32)},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"predictor": True, "compression": "zlib"},
        {"planarconfig": "separate"},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
def test_16_bits_of_any_layout_are_kept(options):
    samples = DEEP.transpose(2, 0, 1).copy() if "planarconfig" in options else DEEP
    assert (np.rint(read_image(tiff(samples, **options)).pixels * 65535) == DEEP).all()


def test_what_libvips_reads_otherwise_stays_with_pillow():
    """YCbCr, premultiplied alpha, compressions it may lack: it would be silently wrong."""
    rgb = Image.fromarray(RGB)
    others = [
        stored(rgb.convert("YCbCr"), "TIFF"),
        stored(rgb, "TIFF", compression="lzma"),
        tiff(RGBA, extrasamples=["assocalpha"]),
        tiff(np.dstack([RGBA, RGB[..., 0]]), extrasamples=["unassalpha", "unspecified"]),
        stored(rgb, "WEBP"),
        stored(rgb, "BMP"),
    ]
    for data in others:
        with Image.open(io.BytesIO(data)) as image:
            assert not is_streamed(image)
            assert held_bytes(image, deep=False) == 8 * RGB.shape[0] * RGB.shape[1]
            expected = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
        assert (np.rint(read_image(data).pixels * 255) == expected[:, :, :3]).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF"])
def test_an_opened_picture_is_the_read_one_from_a_file_in_bands(tmp_path, monkeypatch, fmt, turn):
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(canvas, "BAND_BYTES", 12 * 150 * 9)
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "in"
    Image.fromarray(RGB).save(path, fmt, exif=exif)
    whole = read_image(path)
    with open_image(path, folder=tmp_path) as opened:
        assert opened.size == whole.size
        assert (opened.pixels[:] == whole.pixels).all()
        assert (opened.pixels[20:31, 7:90] == whole.pixels[20:31, 7:90]).all()
        assert (opened.exif, opened.format) == (whole.exif, fmt)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_tags_behind_a_pngs_pixels_are_found_without_decoding_them():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    data = stored(Image.fromarray(RGB), "PNG", exif=exif)
    at = data.index(b"eXIf") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    moved = data[:at] + data[at + length : -12] + data[at : at + length] + data[-12:]
    assert (read_image(moved).pixels == read_image(data).pixels).all()
    assert read_image(moved).exif == read_image(data).exif


def test_what_cannot_be_read_in_parts_has_a_limit():
    progressive = stored(Image.fromarray(RGB), "JPEG", progressive=True)
    with (
        pytest.raises(ImageError, match="not progressive") as caught,
        open_image(progressive, held_limit=6 * RGB.shape[0] * RGB.shape[1] - 1),
    ):
        pass
    assert caught.value.code == "too_large"
    with open_image(stored(Image.fromarray(RGB), "JPEG"), held_limit=0) as opened:
        assert opened.size == RGB.shape[:2]


_PEAK = """
import sys
from pathlib import Path
from tudsr.images.read import open_image
with open_image(Path(sys.argv[1]), 10**9, 0) as picture:
    picture.pixels[:100, :100]
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_picture_four_times_as_tall_takes_no_more_memory(tmp_path, suffix):
    """26 and 103 MiB as samples; resident memory of a process that opens one. libvips' bands and
    caches are full at the first."""
    peaks = []
    for height in (6000, 24000):
        samples = cv2.resize(RGB, (1500, height), interpolation=cv2.INTER_LINEAR)
        path = tmp_path / f"{height}{suffix}"
        Image.fromarray(samples).save(path)
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(path)],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 10, peaks
