"""Decoding in bands: libvips where a file can be streamed, else Pillow, which holds it whole.

Both give the same samples (tests/images/test_decode.py). libvips gets only what Pillow has told to
be a plain JPEG, PNG or TIFF, by the loader of that format: it guesses nothing, and none of its
other loaders can be reached.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tudsr.errors import ImageError
from tudsr.images.canvas import bands
from tudsr.images.grey import grey_curve
from tudsr.images.metadata import cmyk_to_srgb, profile_space

BITS_PER_SAMPLE, PHOTOMETRIC, EXTRA_SAMPLES = 258, 262, 338
_COMPRESSION, _SAMPLES, _STRIP_ROWS = 259, 277, 278

# What a damaged file makes Pillow raise; RuntimeError is an AVIF's.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError),
    RuntimeError,
)

_GREY = ("1", "L", "LA", "La")
_LOADERS = {"JPEG": "jpegload", "MPO": "jpegload", "PNG": "pngload", "TIFF": "tiffload"}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B")
# None, CCITT, LZW, deflate under both numbers, PackBits: what libvips' libtiff surely has.
_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32946, 32773)
_TIFF_JPEG, _YCBCR = 7, 6
_SMALL_STRIP_BYTES = 2**20
# libjpeg keeps two bytes for each of three coefficients until a progressive picture has ended.
_PROGRESSIVE_BYTES_PER_PX = 6
# Pillow's copy and as much again for the decoder behind it.
_WHOLE_BYTES_PER_PX = 8


@dataclass(frozen=True)
class Decoder:
    """Samples as they are stored: not upright yet.

    Attributes:
        size: height and width as stored, pixels.
        channels: 3, or 4 with alpha.
        dtype: uint8 or uint16.
        icc: the profile of these samples; None is sRGB.
        grey: whether a picture of one channel was repeated to three.
        rows: (k, W, channels), from top to bottom, once. May raise `ImageError` (``truncated``).
    """

    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    icc: bytes | None
    grey: bool
    rows: Iterator[NDArray[Any]]


def decoder_of(source: Path | bytes, image: Image.Image, deep: bool, name: str) -> Decoder:
    """What decodes a picture that Pillow has opened and that the reader has accepted.

    Raises:
        ImageError: ``truncated``, ``cmyk``, ``too_large``, or ``unsupported_mode``: 16 bits in an
            unusual layout.
    """
    if is_streamed(image):
        return _streamed(source, image, deep, name)
    if deep:
        raise _unusual(image, name)
    return _whole(image, name)


def is_streamed(image: Image.Image) -> bool:
    """Whether libvips decodes it, from top to bottom; goes by the header."""
    if image.format not in _LOADERS or image.mode not in _MODES:
        return False
    if not isinstance(image, TiffImageFile):
        return True
    tags = image.tag_v2
    packed, colours = tags.get(_COMPRESSION, 1), tags.get(PHOTOMETRIC, 0)
    known = packed == _TIFF_JPEG or (packed in _COMPRESSIONS and colours != _YCBCR)
    return known and tags.get(_SAMPLES, 1) <= 4 and tags.get(EXTRA_SAMPLES, ()) in ((), (0,), (2,))


def held_bytes(image: Image.Image, deep: bool) -> int:
    """What decoding holds that grows with the picture, by its header; 0 where it is streamed.

    An interlaced PNG and a progressive JPEG end everywhere at once; a TIFF may be one long strip.
    """
    (width, height), info = image.size, image.info
    sample_bytes = (2 if deep else 1) * max(3, len(image.getbands()))
    if not is_streamed(image):
        return _WHOLE_BYTES_PER_PX * width * height
    if info.get("progressive") or info.get("progression"):
        return _PROGRESSIVE_BYTES_PER_PX * width * height
    if info.get("interlace"):
        return sample_bytes * width * height
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_COMPRESSION, 1) != 1:
        strip = min(height, image.tag_v2.get(_STRIP_ROWS, 0)) * width * sample_bytes
        return 2 * strip if strip > _SMALL_STRIP_BYTES else 0
    return 0


def damaged(name: str, reason: object) -> ImageError:
    """The error for a file that cannot be decoded to its end."""
    sentence = f"{name} is damaged or cut off ({reason}): fetch or export it again"
    return ImageError("truncated", sentence)


def _streamed(source: Path | bytes, image: Image.Image, deep: bool, name: str) -> Decoder:
    pyvips, loader = _vips(), _LOADERS[str(image.format)]
    options: dict[str, Any] = {"access": "sequential", "fail_on": "error", "unlimited": True}
    try:
        if isinstance(source, bytes):
            opened = getattr(pyvips.Image, f"{loader}_buffer")(source, **options)
        else:
            opened = getattr(pyvips.Image, loader)(str(source), **options)
    except pyvips.Error as error:
        raise damaged(name, _last_line(error)) from None
    if opened.format != ("ushort" if deep else "uchar") or opened.bands > 4:
        raise _unusual(image, name)
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    size, inks = (opened.height, opened.width), image.mode == "CMYK"
    rows = _vips_rows(opened, dtype, name)
    return _in_rgb(rows, size, opened.bands, dtype, image, inks, name)


def _vips_rows(opened: Any, dtype: np.dtype[Any], name: str) -> Iterator[NDArray[Any]]:
    pyvips = _vips()
    try:
        region = pyvips.Region.new(opened)
        for rows in bands(opened.height, opened.width):
            count = rows.stop - rows.start
            raw = region.fetch(0, rows.start, opened.width, count)
            yield np.frombuffer(raw, dtype).reshape(count, opened.width, opened.bands)
    except pyvips.Error as error:
        raise damaged(name, _last_line(error)) from None


def _whole(image: Image.Image, name: str) -> Decoder:
    try:
        image.load()
    except MemoryError:
        raise ImageError("too_large", f"{name} does not fit in memory: reduce it") from None
    except DAMAGED as error:
        raise damaged(name, error) from None
    inks = image.mode == "CMYK"
    colours = "L" if image.mode in _GREY else "RGB"
    mode = "CMYK" if inks else colours + ("A" if image.has_transparency_data else "")
    size, dtype = (image.height, image.width), np.dtype(np.uint8)
    return _in_rgb(_pillow_rows(image, mode), size, len(mode), dtype, image, inks, name)


def _pillow_rows(image: Image.Image, mode: str) -> Iterator[NDArray[Any]]:
    for rows in bands(image.height, image.width):
        part = image.crop((0, rows.start, image.width, rows.stop))
        samples = np.asarray(part if part.mode == mode else part.convert(mode))
        yield samples.reshape(part.height, part.width, -1)


def _in_rgb(
    rows: Iterator[NDArray[Any]],
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype[Any],
    image: Image.Image,
    inks: bool,
    name: str,
) -> Decoder:
    """Inks through their profile, grey repeated and through a profile of its own."""
    icc = image.info.get("icc_profile") or None
    if inks:
        convert = cmyk_to_srgb(icc, name)
        return Decoder(size, 3, dtype, None, False, map(convert, rows))
    grey = channels < 3
    wide = map(_repeated, rows) if grey else rows
    channels += 2 if grey else 0
    if icc is not None and profile_space(icc) == b"GRAY":
        curve = grey_curve(icc, dtype)
        return Decoder(size, channels, dtype, None, grey, (_toned(part, curve) for part in wide))
    return Decoder(size, channels, dtype, icc, grey, wide)


def _repeated(grey: NDArray[Any]) -> NDArray[Any]:
    """(k, W, 1 or 2) to RGB, or RGB and alpha."""
    return grey[:, :, [0, 0, 0, *range(1, grey.shape[2])]]


def _toned(part: NDArray[Any], curve: NDArray[Any]) -> NDArray[Any]:
    """Each of R, G and B looked up in its column of the curve."""
    toned = [curve[part[:, :, c], c] for c in range(3)]
    return np.stack([*toned, *(part[:, :, c] for c in range(3, part.shape[2]))], axis=2)


def _unusual(image: Image.Image, name: str) -> ImageError:
    return ImageError(
        "unsupported_mode",
        f"{name} is a {image.format} of an unusual layout: save it as PNG, of 8 or 16 bits",
    )


@cache
def _vips() -> Any:
    """Imported where it is used: it takes 30 ms and 8 MB."""
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # what it logs is in its exceptions
    import pyvips

    pyvips.cache_set_max(0)  # it would hold on to pictures that are done with
    return pyvips


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
