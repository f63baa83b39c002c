"""Reading a picture: everything the project can keep, and a named refusal of everything else."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tudsr.errors import ImageError
from tudsr.images.formats import KNOWN, looks_like_a_picture, missing, readable, sample_bits
from tudsr.images.metadata import (
    grey_to_srgb,
    kept_dpi,
    kept_exif,
    kept_xmp,
    profile_space,
    srgb_from_cmyk,
)
from tudsr.images.picture import Picture

MAX_PIXELS = 100_000_000
MIN_SIDE_PX = 8

_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError),
    RuntimeError,  # what Pillow raises for a damaged AVIF
)
_MODES_8 = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_MODES_16 = ("I;16", "I;16B", "RGB", "RGBA", "RGBX")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _EXTRA_SAMPLES, _ORIENTATION = 258, 262, 338, 274

# The reader's own limit comes first and names itself; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None


def read_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture of a known format (`formats`), upright, with what belongs to it.

    8 and 16 bits a sample, grey, palette, RGB and transparency are kept; CMYK and grey with a
    profile of their own become sRGB. EXIF keeps its descriptive tags, not its thumbnail; XMP and
    resolution are kept, IPTC and unreadable EXIF left out.

    Args:
        source: a file, or its contents.
        max_pixels: largest H x W; checked in the header before anything is decoded.

    Raises:
        ImageError: with ``code`` one of ``not_found``, ``not_readable``, ``empty``,
            ``not_an_image``, ``truncated`` (or otherwise damaged), ``too_large``, ``too_small``,
            ``animated``, ``unsupported_mode``, ``cmyk``.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _contents(Path(source), max_pixels)
    if not data:
        raise ImageError("empty", f"{name} is empty (0 bytes): give a {KNOWN} picture")
    with _opened(data, name) as image:
        _check_header(image, name, max_pixels)
        deep = _is_16_bit(data, image, name)
        _decode(image, name)
        samples, icc = _samples(data, image, deep, name)
        samples = _upright(samples, _orientation(image))
        exif, xmp, dpi = kept_exif(image), kept_xmp(image), kept_dpi(image)
        fmt = "JPEG" if image.format == "MPO" else str(image.format)
    pixels = np.ascontiguousarray(samples[:, :, :3])
    alpha = np.ascontiguousarray(samples[:, :, 3]) if samples.shape[2] == 4 else None
    return Picture(pixels, alpha, 16 if deep else 8, icc, exif, xmp, dpi, fmt)


@dataclass(frozen=True)
class Header:
    """What a picture's header tells before anything is decoded.

    Attributes:
        size: (height, width) of the upright picture, pixels.
        format: as in `Picture.format`.
        transparent: whether it may have transparent pixels.
    """

    size: tuple[int, int]
    format: str
    transparent: bool


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Look at a picture without decoding it, to know what enlarging it would cost.

    A turn that a PNG mentions after its pixels is not seen here.

    Raises:
        ImageError: as `read_image`, as far as the header shows it.
    """
    name = "the picture"
    if not data:
        raise ImageError("empty", f"{name} is empty (0 bytes): give a {KNOWN} picture")
    with _opened(data, name) as image:
        _check_header(image, name, max_pixels)
        _is_16_bit(data, image, name)
        # Pillow gives a TIFF's upright size, and would decode a PNG to look for its EXIF.
        known = image.format in ("JPEG", "MPO", "WEBP") or "exif" in image.info
        turned = image.format != "TIFF" and known and _orientation(image) in (5, 6, 7, 8)
        width, height = image.size[::-1] if turned else image.size
        fmt = "JPEG" if image.format == "MPO" else str(image.format)
        return Header((height, width), fmt, image.has_transparency_data)


def _contents(path: Path, max_pixels: int) -> bytes:
    if not path.exists():
        raise ImageError("not_found", f"no file {path}: check the path")
    if not path.is_file():
        raise ImageError("not_readable", f"{path} is not a file: give a {KNOWN} picture")
    try:
        # A stored picture takes at most 8 bytes a pixel; twice that leaves room for metadata.
        if path.stat().st_size > max(16 * max_pixels, 1 << 24):
            raise ImageError(
                "too_large",
                f"{path} has {path.stat().st_size:,} bytes, more than a picture of {max_pixels:,} "
                "pixels can have: reduce it or raise the limit",
            )
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            "not_readable", f"cannot read {path}: {error.strerror or error}; check its permissions"
        ) from None


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=readable())
    except _DAMAGED:
        if (remedy := missing(data)) is not None:
            raise ImageError("not_an_image", f"{name} {remedy}") from None
        if looks_like_a_picture(data):
            raise ImageError("truncated", _damaged(name, "its header cannot be read")) from None
        raise ImageError("not_an_image", f"{name} is not a {KNOWN} picture: convert it") from None


def _check_header(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{name} is {width} x {height}, over the limit of {max_pixels:,} pixels: reduce it, "
            "cut it in parts or raise the limit",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            "too_small", f"{name} is {width} x {height}: each side needs {MIN_SIDE_PX} pixels"
        )
    # A phone's MPO holds a preview beside the photograph, not an animation.
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except _DAMAGED as error:
        raise ImageError("truncated", _damaged(name, error)) from None
    if frames > 1:
        raise ImageError(
            "animated", f"{name} has {frames} frames or pages: save the one you want by itself"
        )


def _is_16_bit(data: bytes, image: Image.Image, name: str) -> bool:
    """Whether samples have 16 bits; refuses what could only be kept by losing something."""
    bits = _header_bits(data, image)
    if bits == 16 and image.mode in _MODES_16 and (image.format == "PNG" or _plain_tiff(image)):
        return True
    if bits <= 8 and image.mode in _MODES_8:
        return False
    raise ImageError(
        "unsupported_mode",
        f"{name} is a {image.format} of mode {image.mode} with {bits} bits a sample: save it as "
        "grey or RGB of 8 or 16 bits",
    )


def _header_bits(data: bytes, image: Image.Image) -> int:
    """Bits a sample. A PNG has them at byte 24, in IHDR, which is always its first chunk."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(_tiff_tag(image, _BITS_PER_SAMPLE, (1,)))
    return sample_bits(data, str(image.format))


def _plain_tiff(image: Image.Image) -> bool:
    """Grey (black is 0) or RGB, with straight alpha if any: what OpenCV decodes unchanged."""
    straight = 1 not in _tiff_tag(image, _EXTRA_SAMPLES, ())
    return straight and _tiff_tag(image, _PHOTOMETRIC, 0) in (1, 2)


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if isinstance(image, TiffImageFile) else default


def _decode(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise ImageError("too_large", f"{name} does not fit in memory: reduce it") from None
    except _DAMAGED as error:
        raise ImageError("truncated", _damaged(name, error)) from None


def _samples(
    data: bytes, image: Image.Image, deep: bool, name: str
) -> tuple[NDArray[np.float32], bytes | None]:
    """(H, W, 3 or 4) in [0, 1] as stored, and the profile that describes them."""
    icc = image.info.get("icc_profile") or None
    if image.mode == "CMYK":
        return _unit(np.asarray(srgb_from_cmyk(image, icc, name))), None
    samples = _decoded_16(data, image, name) if deep else _decoded_8(image)
    if icc is not None and profile_space(icc) == b"GRAY":
        return grey_to_srgb(samples, icc), None
    return samples, icc


def _decoded_8(image: Image.Image) -> NDArray[np.float32]:
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return _unit(np.asarray(image if image.mode == mode else image.convert(mode)))


def _decoded_16(data: bytes, image: Image.Image, name: str) -> NDArray[np.float32]:
    """Pillow would cut 16-bit RGB down to 8; OpenCV keeps it, as BGR."""
    import cv2

    raw: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise ImageError(
            "unsupported_mode",
            f"{name} is a 16-bit {image.format} of an unusual layout: save it as a 16-bit PNG",
        )
    bgr = raw if raw.ndim == 3 else np.repeat(raw[:, :, None], 3, axis=2)
    return _unit(bgr[:, :, [2, 1, 0, 3][: bgr.shape[2]]])


def _unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    unit = samples.astype(np.float32)
    unit /= np.float32(np.iinfo(samples.dtype).max)
    return unit


def _orientation(image: Image.Image) -> int:
    """EXIF 2.32, tag 0x0112, of a decoded image; 1 where there is none or none that can be read.

    Pillow turns a TIFF upright as it decodes it and drops the tag; OpenCV turns TIFFs, too.
    """
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:
        return 1


def _upright(samples: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Undo the camera's turn, values 2 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _damaged(name: str, reason: object) -> str:
    return f"{name} is damaged or cut off ({reason}): fetch or export it again"
