"""EXIF, XMP and resolution, and colour profiles that three RGB channels cannot carry."""

from __future__ import annotations

import io
import re
import struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tudsr.errors import ImageError

# Description, make, model, resolution (282, 283, 296), software, date, artist, copyright. Tags of
# the storage layout, such as a TIFF's strips, would describe the old file, not the new one.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
# As an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""")
_MAX_DPI = 65535
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, struct.error, KeyError, IndexError)


def kept_exif(image: Image.Image) -> bytes | None:
    """The descriptive tags, camera and place of a decoded image, as an EXIF block.

    The orientation goes (it is applied), and so does the thumbnail (it would be stale). A block
    that cannot be parsed is left out, as viewers do: it says nothing about the pixels.
    """
    try:
        source, kept = image.getexif(), Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in source:
                kept[tag] = source[tag]
        for ifd in (_EXIF_IFD, _GPS_IFD):
            tags = dict(source.get_ifd(ifd))
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


def profile_space(icc: bytes | None) -> bytes:
    """The data colour space of a profile: ``RGB ``, ``GRAY``, ``CMYK`` (ICC.1:2010, 7.2.6)."""
    return (icc or b"")[16:20]


def srgb_from_cmyk(image: Image.Image, icc: bytes | None, name: str) -> Image.Image:
    """A CMYK image in sRGB, through its own profile.

    Raises:
        ImageError: ``cmyk``: no profile, or one that is not a CMYK profile. Without one the
            colours of the inks are unknown, and a guess would be visibly wrong.
    """
    remedy = "export it as sRGB, or with its CMYK profile embedded"
    if not icc:
        raise ImageError("cmyk", f"{name} is CMYK without a colour profile: {remedy}")
    try:
        return cast("Image.Image", _to_srgb(image, icc))
    except (ImageCms.PyCMSError, OSError) as error:
        raise ImageError(
            "cmyk", f"{name}: its CMYK profile is not usable ({error}): {remedy}"
        ) from None


def grey_to_srgb(samples: NDArray[np.float32], icc: bytes) -> NDArray[np.float32]:
    """Grey samples, repeated as RGB, from their own tone curve to that of sRGB.

    An RGB file cannot carry a grey profile, and dropping it would change the brightness. A profile
    that cannot be used is treated as absent, as viewers do.

    Args:
        samples: (H, W, 3 or 4) in [0, 1]; alpha stays.
        icc: a profile of colour space GRAY.
    """
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        curve = np.asarray(_to_srgb(ramp, icc), np.float32)[0] / np.float32(255)
    except (ImageCms.PyCMSError, OSError):
        return samples
    out = samples.copy()
    for c in range(3):
        out[:, :, c] = np.interp(samples[:, :, c], np.linspace(0, 1, 256), curve[:, c])
    return out


def _to_srgb(image: Image.Image, icc: bytes) -> Any:
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, io.BytesIO(icc), srgb, outputMode="RGB")
