"""Writing a picture: depth, profile, metadata and transparency kept, or an error that says why."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tudsr.errors import ImageError
from tudsr.images.atomic import writing
from tudsr.images.canvas import bands
from tudsr.images.formats import readable
from tudsr.images.metadata import exif_with_dpi
from tudsr.images.picture import Picture, Windows
from tudsr.images.rows import write_png, write_tiff

QUALITY, PNG_LEVEL = 95, 1

_SLICE_ROWS = 64
_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
# The longest side each format can store: libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits, and TIFF's
# 4 GiB of offsets or PNG's 31 bits, which are out of reach.
_MAX_SIDE_PX = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}


def format_of(path: Path) -> str:
    """``PNG``, ``JPEG``, ``WEBP``, ``TIFF`` or ``AVIF``, by the file's suffix.

    Raises:
        ImageError: ``not_writable``: another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ImageError(
            "not_writable", f"cannot write {path}: end its name in {', '.join(_SUFFIXES)}"
        )
    return _SUFFIXES[suffix]


def writable() -> list[str]:
    """The formats that can be written here; AVIF where Pillow has it."""
    return [f for f in dict.fromkeys(_SUFFIXES.values()) if f != "AVIF" or f in readable()]


def check_fits(fmt: str, height: int, width: int, transparent: bool = False) -> None:
    """Refuse early what a format cannot store, before minutes of work are lost.

    Raises:
        ImageError: ``not_writable``: a side too long, transparency in a JPEG, or AVIF where Pillow
            was built without it.
    """
    if fmt not in writable():
        raise ImageError("not_writable", f"this Pillow was built without {fmt}: write WebP or PNG")
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
    write_rows(_slices(picture), picture.size, picture, path)


def write_rows(
    rows: Iterable[NDArray[np.float32]], size: tuple[int, int], like: Picture[Any], path: Path
) -> None:
    """As `write_image`, of a picture that comes some rows at a time; see `encode_rows`.

    Raises:
        ImageError: ``not_writable``.
    """
    fmt, first, rest = format_of(path), *_peek(rows)
    try:
        # The first rows come before the file: whatever ends the work until then leaves nothing.
        with writing(Path(path)) as temporary, temporary.open("wb") as stream:
            encode_rows(chain(first, rest), size, like, fmt, stream)
    except OSError as error:
        raise ImageError(
            "not_writable",
            f"cannot write {path}: {error.strerror or error}; nothing there was changed. Free "
            f"space (up to {_most_bytes(size, like) / 1e6:.1f} MB) or choose a folder that you may "
            "write to",
        ) from None


def encode_image(
    picture: Picture, fmt: str, quality: int = QUALITY, png_level: int = PNG_LEVEL
) -> bytes:
    """Encode a picture in memory; see `encode_rows`."""
    stream = io.BytesIO()
    encode_rows(_slices(picture), picture.size, picture, fmt, stream, quality, png_level)
    return stream.getvalue()


def encode_rows(
    rows: Iterable[NDArray[np.float32]],
    size: tuple[int, int],
    like: Picture[Any],
    fmt: str,
    out: BinaryIO,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
) -> None:
    """Encode as ``PNG``, ``JPEG``, ``WEBP``, ``TIFF`` or ``AVIF``.

    PNG and TIFF are lossless, keep 16 bits and hold nothing but the rows at hand. The others have 8
    bits, and their encoders hold the picture whole: 3 or 4 bytes a pixel, and as much again.

    Args:
        rows: (k, W, 3 or 4) in [0, 1], top to bottom, of one k but for the last.
        size: height and width of the whole.
        like: has depth, profile, metadata, and whether there is transparency.
        fmt: the format.
        out: where the bytes go; can seek.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        png_level: 0 to 9; see `write_png`.

    Raises:
        ImageError: ``not_writable``: a side too long, transparency in a JPEG, metadata that the
            format cannot store, or pixels that are not finite.
    """
    check_fits(fmt, *size, transparent=is_see_through(like))
    lossless = fmt in ("PNG", "TIFF")
    like = like if lossless else replace(like, depth=8)
    channels = _stored(like, fmt)
    shape = (*size, len(channels))
    quantised = (_quantised(band[:, :, channels], like.depth) for band in rows)
    try:
        if fmt == "PNG":
            write_png(quantised, shape, like, png_level, out)
        elif fmt == "TIFF":
            write_tiff(quantised, shape, like, out)
        else:
            _pillow(quantised, shape, like, fmt, quality, out)
    except (OSError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the encoder's
        raise ImageError(
            "not_writable",
            f"{fmt} cannot store this picture ({error}): write PNG or TIFF, or strip its metadata",
        ) from None


def is_see_through(picture: Picture[Any]) -> bool:
    """Whether any pixel is transparent, in part or wholly."""
    alpha: Windows | None = picture.alpha
    return alpha is not None and any((alpha[rows] < 1).any() for rows in bands(*picture.size))


def _stored(like: Picture[Any], fmt: str) -> list[int]:
    """Which of R, G, B and alpha a file holds: of a grey picture one for all colours.

    WebP and AVIF have no grey, a grey file cannot carry a profile of RGB, and few programs read a
    TIFF of grey with alpha in 16 bits: Pillow does not.
    """
    alpha = like.alpha is not None and fmt != "JPEG"
    rare = fmt == "TIFF" and alpha and like.depth == 16
    grey = like.grey and like.icc is None and fmt not in ("WEBP", "AVIF") and not rare
    return ([0] if grey else [0, 1, 2]) + ([3] if alpha else [])


def _slices(picture: Picture) -> Iterator[NDArray[np.float32]]:
    for top in range(0, picture.size[0], _SLICE_ROWS):
        rows = slice(top, top + _SLICE_ROWS)
        if picture.alpha is None:
            yield picture.pixels[rows]
        else:
            yield np.concatenate([picture.pixels[rows], picture.alpha[rows, :, None]], axis=2)


def _peek(
    rows: Iterable[NDArray[np.float32]],
) -> tuple[list[NDArray[np.float32]], Iterator[NDArray[np.float32]]]:
    rest = iter(rows)
    return list(islice(rest, 1)), rest


def _most_bytes(size: tuple[int, int], like: Picture[Any]) -> int:
    return size[0] * size[1] * (3 if like.alpha is None else 4) * like.depth // 8


def _quantised(samples: NDArray[np.float32], depth: int) -> NDArray[Any]:
    """The same as uint8 or uint16, rounded to the nearest level."""
    if not np.isfinite(samples).all():
        raise ImageError("not_writable", "the picture has values that are not finite")
    dtype = np.uint16 if depth == 16 else np.uint8
    scaled = np.clip(samples, 0, 1) * np.float32(np.iinfo(dtype).max)
    return np.rint(scaled, out=scaled).astype(dtype)


def _pillow(
    rows: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    like: Picture[Any],
    fmt: str,
    quality: int,
    out: BinaryIO,
) -> None:
    options: dict[str, Any] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "method": 2},
        "AVIF": {"quality": quality, "subsampling": "4:4:4", "speed": 8},
    }[fmt]
    exif = like.exif
    if like.dpi is not None and fmt != "JPEG":
        exif = exif_with_dpi(exif, like.dpi)
    known = {"icc_profile": like.icc, "exif": exif, "xmp": like.xmp, "dpi": like.dpi}
    options |= {name: value for name, value in known.items() if value is not None}
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[shape[2]]
    whole, top = Image.new(mode, (shape[1], shape[0])), 0
    for band in rows:
        whole.paste(Image.fromarray(band[:, :, 0] if mode == "L" else band), (0, top))
        top += len(band)
    whole.save(out, fmt, **options)
