"""Writing a picture: depth, profile, metadata and transparency kept, or an error that says why."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tudsr.errors import ImageError
from tudsr.images.atomic import write_bytes
from tudsr.images.picture import Picture

QUALITY, PNG_LEVEL = 95, 1

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
# The longest side each format can store: libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits, and TIFF's
# 4 GiB of offsets or PNG's 31 bits, which are out of reach.
_MAX_SIDE_PX = {"JPEG": 65500, "WEBP": 16383}


def format_of(path: Path) -> str:
    """``PNG``, ``JPEG``, ``WEBP`` or ``TIFF``, by the file's suffix.

    Raises:
        ImageError: ``not_writable``: another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ImageError(
            "not_writable", f"cannot write {path}: end its name in {', '.join(_SUFFIXES)}"
        )
    return _SUFFIXES[suffix]


def check_fits(fmt: str, height: int, width: int, transparent: bool = False) -> None:
    """Refuse early what a format cannot store, before minutes of work are lost.

    Raises:
        ImageError: ``not_writable``: a side too long, or transparency in a JPEG.
    """
    limit = _MAX_SIDE_PX.get(fmt)
    if limit is not None and max(height, width) > limit:
        raise ImageError(
            "not_writable",
            f"{width} x {height} is over the {limit} a side of {fmt}: write PNG or TIFF",
        )
    if fmt == "JPEG" and transparent:
        raise ImageError("not_writable", "a JPEG has no transparency: write PNG, WebP or TIFF")


def write_image(picture: Picture, path: Path) -> None:
    """Encode by the path's suffix and write atomically; a file that was there stays on an error.

    Raises:
        ImageError: ``not_writable``: see `encode_image`, or the file cannot be written.
    """
    data = encode_image(picture, format_of(path))
    try:
        write_bytes(Path(path), data)
    except OSError as error:
        raise ImageError(
            "not_writable",
            f"cannot write {path}: {error.strerror or error}; nothing there was changed. Free "
            f"{len(data) / 1e6:.1f} MB or choose a folder that you may write to",
        ) from None


def encode_image(
    picture: Picture, fmt: str, quality: int = QUALITY, png_level: int = PNG_LEVEL
) -> bytes:
    """Encode as ``PNG``, ``JPEG``, ``WEBP`` or ``TIFF``.

    PNG and TIFF keep 16 bits and are lossless; JPEG and WebP have 8 bits.

    Args:
        picture: what is encoded.
        fmt: the format.
        quality: of JPEG and WebP, 1 to 100.
        png_level: zlib's level, 0 to 9. At 2048 x 2048 level 1 takes 0.2 s where zlib's default, 6,
            takes 1.5 s, for a tenth more bytes.

    Raises:
        ImageError: ``not_writable``: a side too long, transparency in a JPEG, metadata that the
            format cannot store, or pixels that are not finite.
    """
    opaque = picture.alpha is None or bool(picture.alpha.min() >= 1)
    check_fits(fmt, *picture.size, transparent=not opaque)
    samples = _quantised(picture, fmt)
    try:
        if fmt == "TIFF":
            return _tiff(samples, picture)
        if samples.dtype == np.uint16:
            return _png_16(samples, picture, png_level)
        return _pillow(samples, picture, fmt, quality, png_level)
    except (OSError, ValueError, struct.error) as error:
        raise ImageError("not_writable", f"{fmt} cannot store this picture: {error}") from None


def _quantised(picture: Picture, fmt: str) -> NDArray[Any]:
    """(H, W, 3 or 4) uint8 or uint16, rounded to the nearest level."""
    samples = picture.pixels
    if picture.alpha is not None and fmt != "JPEG":
        samples = np.concatenate([samples, picture.alpha[:, :, None]], axis=2)
    if not np.isfinite(samples).all():
        raise ImageError("not_writable", "the picture has values that are not finite")
    deep = picture.depth == 16 and fmt in ("PNG", "TIFF")
    dtype = np.uint16 if deep else np.uint8
    scaled = np.clip(samples, 0, 1) * np.float32(np.iinfo(dtype).max)
    return np.rint(scaled, out=scaled).astype(dtype)


def _pillow(
    samples: NDArray[np.uint8], picture: Picture, fmt: str, quality: int, png_level: int
) -> bytes:
    options: dict[str, Any] = {
        "PNG": {"compress_level": png_level},
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "method": 2},
    }[fmt]
    if picture.icc is not None:
        options["icc_profile"] = picture.icc
    if picture.exif is not None:
        options["exif"] = picture.exif
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, fmt, **options)
    return stream.getvalue()


def _png_16(samples: NDArray[np.uint16], picture: Picture, png_level: int) -> bytes:
    """Pillow has no 16-bit RGB: OpenCV encodes, and profile and metadata follow the header."""
    import cv2

    order = [2, 1, 0, 3][: samples.shape[2]]
    level = [cv2.IMWRITE_PNG_COMPRESSION, png_level]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(samples[:, :, order]), level)
    if not done:
        raise OSError("OpenCV refused it")
    data = encoded.tobytes()
    extra = b""
    if picture.icc is not None:
        extra += _png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(picture.icc))
    if picture.exif is not None:
        extra += _png_chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    header = 8 + 25  # the signature, then IHDR: 4 + 4 + 13 + 4 bytes
    return data[:header] + extra + data[header:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    """PNG, 5.3: length, type, data, CRC-32 of type and data."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff(samples: NDArray[Any], picture: Picture) -> bytes:
    """A baseline TIFF 6.0 of one deflated strip, 8 or 16 bits; its tags are written by Pillow.

    Pillow's own writer has no 16-bit RGB and cannot store EXIF sub-directories when compressing.
    """
    height, width, channels = samples.shape
    strip = zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), 1)
    tags = _tiff_tags(picture.exif)
    tags[256], tags[257], tags[277] = width, height, channels
    tags[258] = (8 * samples.itemsize,) * channels
    tags[259], tags[262], tags[284] = 8, 2, 1  # Adobe deflate, RGB, interleaved
    tags.tagtype[273] = 4
    tags[273], tags[278], tags[279] = 0, height, len(strip)  # Pillow counts from the tags' end
    if channels == 4:
        tags[338] = 2  # unassociated alpha
    if picture.icc is not None:
        tags.tagtype[34675] = 7
        tags[34675] = picture.icc
    return b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8) + strip


def _tiff_tags(exif: bytes | None) -> ImageFileDirectory_v2:
    """A directory with the EXIF block's tags, its sub-directories included."""
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    source = Image.Exif()
    if exif is not None:
        source.load(exif)
    for tag, value in source.items():
        tags[tag] = dict(source.get_ifd(tag)) if tag in (0x8769, 0x8825) else value
    return tags
