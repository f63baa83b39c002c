"""EXIF, XMP and resolution, and what colour profiles say."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tudsr.errors import ImageError

# Description, make, model, resolution (282, 283, 296), software, date, artist, host, rating (both),
# copyright, and what Windows adds: title, comment, author, keywords, subject. Tags of the storage
# layout, such as a TIFF's strips, would describe the old file, not the new one.
_DESCRIPTIVE = (
    *(270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432),
    *(40091, 40092, 40093, 40094, 40095),
)
# The old file's width and height, and a pointer to a table that does not come along.
_STALE = (40962, 40963, 40965)
# As an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""")
_MAX_DPI = 65535
_ORIENTATION = 274
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_CHUNK_BYTES = 16 * 2**20
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, struct.error, KeyError, IndexError)


def orientation_of(image: Image.Image) -> int:
    """EXIF 2.32, tag 0x0112; 1 where there is none or none that can be read.

    Pillow turns a TIFF upright as it decodes it, and drops the tag.
    """
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*_UNREADABLE, EOFError, RuntimeError):
        return 1


def png_without_pixels(stream: BinaryIO) -> bytes:
    """A PNG's signature and chunks but for its pixels, up to its end or the first damaged chunk.

    Tags may stand behind the pixels, where Pillow comes only by decoding them.
    """
    kept = [stream.read(8)]
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT" or length > _MAX_CHUNK_BYTES:
            stream.seek(length + 4, io.SEEK_CUR)
            continue
        body = stream.read(length + 4)
        if kind == b"IEND" or zlib.crc32(kind + body[:-4]).to_bytes(4, "big") != body[-4:]:
            break
        kept.append(head + body)
    return b"".join([*kept, _PNG_END])


def kept_exif(image: Image.Image) -> bytes | None:
    """The descriptive tags, camera and place of a decoded image, as an EXIF block.

    The orientation goes (it is applied), and so do thumbnail and size (they would be stale). A
    block that cannot be parsed is left out, as viewers do: it says nothing about the pixels.
    """
    try:
        source, kept = image.getexif(), Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in source:
                kept[tag] = source[tag]
        for ifd in (_EXIF_IFD, _GPS_IFD):
            tags = {k: v for k, v in source.get_ifd(ifd).items() if k not in _STALE}
            if tags:
                kept[ifd] = tags
        return kept.tobytes() if len(kept) else None
    except _UNREADABLE:
        return None


def kept_xmp(image: Image.Image) -> bytes | None:
    """The XMP packet of a decoded image, its orientation set to upright: the turn is applied."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(packet, str):
        packet = packet.encode("utf-8")
    if not isinstance(packet, bytes) or not packet:
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def kept_dpi(image: Image.Image) -> tuple[float, float] | None:
    """The resolution in dots an inch; None where there is none, or one that cannot be."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (*_UNREADABLE, ZeroDivisionError):
        return None
    return (across, down) if 1 <= across <= _MAX_DPI and 1 <= down <= _MAX_DPI else None


def exif_with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """An EXIF block that says the resolution, for formats with no other place for it."""
    block = Image.Exif()
    if exif is not None:
        block.load(exif)
    block[282], block[283], block[296] = *dpi, 2  # dots an inch
    return block.tobytes()


def profile_space(icc: bytes | None) -> bytes:
    """The data colour space of a profile: ``RGB ``, ``GRAY``, ``CMYK`` (ICC.1:2010, 7.2.6)."""
    return (icc or b"")[16:20]


def cmyk_to_srgb(icc: bytes | None, name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What turns (k, W, 4) uint8 CMYK into sRGB, through the picture's own profile.

    Raises:
        ImageError: ``cmyk``: no profile, or one that is not a CMYK profile. Without one the
            colours of the inks are unknown, and a guess would be visibly wrong.
    """
    remedy = "export it as sRGB, or with its CMYK profile embedded"
    if not icc:
        raise ImageError("cmyk", f"{name} is CMYK without a colour profile: {remedy}")
    try:
        transform = to_srgb(icc, "CMYK")
    except (ImageCms.PyCMSError, OSError) as error:
        raise ImageError(
            "cmyk", f"{name}: its CMYK profile is not usable ({error}): {remedy}"
        ) from None

    def convert(inks: NDArray[Any]) -> NDArray[Any]:
        image = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
        return np.asarray(transform.apply(image))

    return convert


def to_srgb(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """From samples of Pillow's mode, with a profile, to sRGB in 8 bits.

    Raises:
        ImageCms.PyCMSError, OSError: a profile that cannot be used.
    """
    srgb = ImageCms.createProfile("sRGB")
    own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.buildTransform(own, srgb, mode, "RGB")
