"""Grey profiles, which three RGB channels cannot carry: greys become those of sRGB."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tudsr.images.metadata import to_srgb

Doubles = NDArray[np.float64]

_TAG_COUNT_AT = 128
_FIXED = 65536  # s15Fixed16Number
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}


def grey_curve(icc: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """R, G and B in sRGB of every grey, (levels, 3), for samples with a grey profile.

    An RGB file cannot carry a grey profile, and dropping it would change the brightness. A profile
    that cannot be used is treated as absent, as viewers do.

    Args:
        icc: a profile of colour space GRAY.
        dtype: of the samples, uint8 or uint16.
    """
    top = np.iinfo(dtype).max
    levels = np.linspace(0, 1, top + 1)
    try:
        rough = np.asarray(to_srgb(icc, "L").apply(_ramp()), np.float64)[0] / 255
    except (ImageCms.PyCMSError, OSError):
        return np.repeat(np.arange(top + 1, dtype=dtype)[:, None], 3, 1)
    light = _light(icc, levels)
    if light is not None:
        shades = np.repeat(_encoded(light)[:, None], 3, 1)
    else:
        shades = np.stack([np.interp(levels, np.linspace(0, 1, 256), c) for c in rough.T], 1)
    return np.rint(shades * top).astype(dtype)


def _ramp() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


def _light(icc: bytes, x: Doubles) -> Doubles | None:
    """The linear light of greys in [0, 1]; None where more than a tone curve counts.

    Little CMS, and libvips by it, are up to 2,500 of 65,535 levels off in the darks of a linear
    profile, 10 of 255 in 8 bits: so the curve is evaluated here.
    """
    try:
        tags = _tags(icc)
        if icc[20:24] != b"XYZ " or b"A2B0" in tags:
            return None
        at = tags[b"kTRC"]
        curve = {b"curv": _sampled, b"para": _parametric}[icc[at : at + 4]]
        with np.errstate(all="ignore"):
            y = curve(icc, at, x)
    except (KeyError, ValueError, ZeroDivisionError, struct.error):
        return None
    return np.clip(y, 0, 1) if np.isfinite(y).all() else None


def _tags(icc: bytes) -> dict[bytes, int]:
    """Where each tag lies (ICC.1:2010, 7.3)."""
    (count,) = struct.unpack_from(">I", icc, _TAG_COUNT_AT)
    first = _TAG_COUNT_AT + 4
    entries = struct.iter_unpack(">4sII", icc[first : first + 12 * count])
    return {name: at for name, at, _ in entries}


def _sampled(icc: bytes, at: int, x: Doubles) -> Doubles:
    """``curv``: the identity, one exponent, or samples with straight lines between them."""
    (count,) = struct.unpack_from(">I", icc, at + 8)
    if count == 0:
        return x
    samples = np.frombuffer(icc, ">u2", count, at + 12)
    if count == 1:
        return x ** (samples[0] / 256)
    return np.interp(x, np.linspace(0, 1, count), samples / 65535)


def _parametric(icc: bytes, at: int, x: Doubles) -> Doubles:
    """``para``: (ax + b)^g + e from d on, cx + f below; the shorter forms are cases of it."""
    (kind,) = struct.unpack_from(">H", icc, at + 8)
    given = struct.unpack_from(f">{_PARAMETERS[kind]}i", icc, at + 12)
    match [value / _FIXED for value in given]:
        case [g]:
            a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
        case [g, a, b]:
            c, d, e, f = 0.0, -b / a, 0.0, 0.0
        case [g, a, b, e]:
            c, d, f = 0.0, -b / a, e
        case [g, a, b, c, d]:
            e, f = 0.0, 0.0
        case [g, a, b, c, d, *rest]:
            e, f = rest
        case _:
            raise ValueError(kind)
    return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)


def _encoded(light: Doubles) -> Doubles:
    """Linear light as sRGB has it (IEC 61966-2-1)."""
    curved = 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved)
