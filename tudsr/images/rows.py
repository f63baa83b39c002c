"""PNG and TIFF written some rows at a time, so that a picture need not fit in memory.

Both keep 8 or 16 bits a sample, straight alpha, colour profile, EXIF with its sub-directories, XMP
and resolution: Pillow's writers hold the picture whole and have no 16-bit RGB, libvips' leave EXIF
out of TIFFs. With the filter Up, igzip takes a ninth of Pillow's time for up to 5 % more
bytes (docs/log.md).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tudsr.images.picture import Picture

_UP = 2
_INCH_M = 0.0254
_CLASSIC_TIFF_BYTES = 2**32 - 2**16


def write_png(
    rows: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    like: Picture[Any],
    level: int,
    out: BinaryIO,
) -> None:
    """Write a PNG (third edition): header, what belongs to the picture, then rows as they come.

    Args:
        rows: (k, W, C) uint8 or uint16, top to bottom, of one k but for the last; C is 1 (grey),
            2 (with alpha), 3 (RGB) or 4 (with alpha).
        shape: of the whole: height, width, channels.
        like: has depth, profile and metadata.
        level: 0 to 9; 1 is igzip's, five times as fast, the others are zlib's.
        out: where the bytes go.
    """
    height, width, channels = shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    out.write(b"\x89PNG\r\n\x1a\n")
    _chunk(out, b"IHDR", struct.pack(">IIBBBBB", width, height, like.depth, colour, 0, 0, 0))
    _png_metadata(out, like)
    packer = isal_zlib.compressobj(1) if level == 1 else zlib.compressobj(level)
    above = np.zeros(0, np.uint8)
    for samples in rows:
        plain = _big_endian_bytes(samples)
        above = above if len(above) else np.zeros_like(plain[0])
        lines = np.empty((len(plain), plain.shape[1] + 1), np.uint8)
        lines[:, 0] = _UP
        np.subtract(plain[0], above, out=lines[0, 1:])
        np.subtract(plain[1:], plain[:-1], out=lines[1:, 1:])
        above = plain[-1].copy()
        _chunk(out, b"IDAT", packer.compress(lines.data))
    _chunk(out, b"IDAT", packer.flush())
    _chunk(out, b"IEND", b"", always=True)


def write_tiff(
    rows: Iterable[NDArray[Any]], shape: tuple[int, int, int], like: Picture[Any], out: BinaryIO
) -> None:
    """Write a baseline TIFF 6.0 of deflated strips; the directory, made by Pillow, comes last.

    Takes what `write_png` takes; ``out`` can seek.

    Raises:
        ValueError: more than the 4 GiB that a TIFF's offsets reach.
    """
    offsets, lengths, heights = list[int](), list[int](), list[int]()
    out.write(b"II*\0" + bytes(4))
    for samples in rows:
        strip = isal_zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), 1)
        offsets.append(out.tell())
        lengths.append(len(strip))
        heights.append(len(samples))
        out.write(strip)
        if out.tell() > _CLASSIC_TIFF_BYTES:
            raise ValueError("it is over the 4 GiB of a TIFF: write PNG")
    out.write(bytes(out.tell() % 2))
    directory = out.tell()
    tags = _tiff_tags(like)
    tags[256], tags[257], tags[277] = shape[1], shape[0], shape[2]
    tags[258] = (like.depth,) * shape[2]
    # Adobe deflate, grey with black at 0 or RGB, interleaved
    tags[259], tags[262], tags[284] = 8, 1 if shape[2] < 3 else 2, 1
    if shape[2] in (2, 4):
        tags[338] = 2  # unassociated alpha
    for tag in (273, 278, 279):
        tags.tagtype[tag] = 4
    tags[273], tags[278], tags[279] = tuple(offsets), heights[0], tuple(lengths)
    out.write(_directory(tags, directory, offsets))
    out.seek(4)
    out.write(struct.pack("<I", directory))


def _big_endian_bytes(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """(k, W, C) to (k, bytes of a row), PNG's order."""
    ordered = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">"))
    return ordered.view(np.uint8).reshape(len(samples), -1)


def _png_metadata(out: BinaryIO, like: Picture[Any]) -> None:
    if like.icc is not None:
        _chunk(out, b"iCCP", b"icc\0\0" + zlib.compress(like.icc))
    if like.dpi is not None:
        per_metre = [round(value / _INCH_M) for value in like.dpi]
        _chunk(out, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if like.exif is not None:
        _chunk(out, b"eXIf", like.exif.removeprefix(b"Exif\0\0"))
    if like.xmp is not None:
        _chunk(out, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + like.xmp)


def _chunk(out: BinaryIO, kind: bytes, body: bytes, always: bool = False) -> None:
    """PNG, 5.3: length, type, data, CRC-32 of type and data; without data, nothing."""
    if body or always:
        crc = zlib.crc32(body, zlib.crc32(kind))
        out.write(struct.pack(">I", len(body)) + kind)
        out.write(body)
        out.write(struct.pack(">I", crc))


def _tiff_tags(like: Picture[Any]) -> ImageFileDirectory_v2:
    """A directory with the EXIF block's tags, its sub-directories included, profile and XMP."""
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    source = Image.Exif()
    if like.exif is not None:
        source.load(like.exif)
    for tag, value in source.items():
        tags[tag] = dict(source.get_ifd(tag)) if tag in (0x8769, 0x8825) else value
    if like.dpi is not None:
        tags[282], tags[283], tags[296] = *like.dpi, 2
    for tag, block in ((700, like.xmp), (34675, like.icc)):
        if block is not None:
            tags.tagtype[tag] = 1 if tag == 700 else 7
            tags[tag] = block
    return tags


def _directory(tags: ImageFileDirectory_v2, at: int, offsets: list[int]) -> bytes:
    """The directory's bytes. Pillow takes strip offsets for relative ones: they are put in anew."""
    raw = bytearray(tags.tobytes(at))
    for entry in range(2, 2 + 12 * struct.unpack_from("<H", raw)[0], 12):
        tag, _, count, value = struct.unpack_from("<HHLL", raw, entry)
        if tag == 273:
            where = entry + 8 if count == 1 else value - at
            struct.pack_into(f"<{count}L", raw, where, *offsets)
    return bytes(raw)
