"""Reading a picture: everything the project can keep, and a named refusal of everything else."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tudsr.errors import ImageError
from tudsr.images.canvas import Canvas, Channels, unit
from tudsr.images.decode import (
    BITS_PER_SAMPLE,
    DAMAGED,
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    Decoder,
    damaged,
    decoder_of,
    held_bytes,
)
from tudsr.images.formats import KNOWN, looks_like_a_picture, missing, readable, sample_bits
from tudsr.images.metadata import kept_dpi, kept_exif, kept_xmp, orientation_of, png_without_pixels
from tudsr.images.picture import Picture, Windows
from tudsr.images.scans import check_scans
from tudsr.images.turn import decode_into, turned

MAX_PIXELS = 100_000_000
MIN_SIDE_PX = 8

_MODES_8 = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_MODES_16 = ("I;16", "I;16B", "RGB", "RGBA", "RGBX")
_HEAD_BYTES = 64

# The reader's own limit comes first and names itself; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None


def read_image(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture of a known format (`formats`), upright, with what belongs to it.

    8 and 16 bits a sample, grey, palette, RGB and transparency are kept; CMYK and grey with a
    profile of their own become sRGB. EXIF keeps its descriptive tags, not its thumbnail; XMP and
    resolution are kept, IPTC, a PNG's gAMA, cHRM and cICP, and unreadable EXIF left out.

    Args:
        source: a file, or its contents.
        max_pixels: largest H x W; checked in the header before anything is decoded.

    Raises:
        ImageError: with ``code`` one of ``not_found``, ``not_readable``, ``empty``,
            ``not_an_image``, ``truncated`` (or otherwise damaged), ``too_large``, ``too_small``,
            ``animated``, ``unsupported_mode``, ``cmyk``.
    """
    with _identified(source, max_pixels) as found:
        decoder, turn = found.decoder(), found.orientation()
        samples = np.empty((*turned(decoder.size, turn), decoder.channels), decoder.dtype)
        decode_into(samples, decoder, turn)
        pixels = unit(np.ascontiguousarray(samples[:, :, :3]))
        alpha = unit(samples[:, :, 3]) if decoder.channels == 4 else None
        return found.picture(pixels, alpha, decoder)


@contextmanager
def open_image(
    source: Path | bytes,
    max_pixels: int = MAX_PIXELS,
    held_limit: int | None = None,
    folder: Path | None = None,
) -> Generator[Picture[Windows]]:
    """As `read_image`, for a picture that may be larger than memory: pixels come by windows.

    It is decoded once, in bands, to a `Canvas` that is given back in the end.

    Args:
        source: a file, which is not read whole, or its contents.
        max_pixels: largest H x W.
        held_limit: the most bytes that a format without bands may hold while it is decoded.
        folder: for temporary files; see `Canvas`.

    Raises:
        ImageError: as `read_image`; ``too_large``: over ``held_limit``; ``no_space``.
    """
    with _identified(source, max_pixels) as found:
        found.check_held(held_limit)
        decoder, turn = found.decoder(), found.orientation()
        size = turned(decoder.size, turn)
        with closing(Canvas(*size, folder, decoder.channels, decoder.dtype)) as canvas:
            decode_into(canvas, decoder, turn)
            alpha = Channels(canvas, 3) if decoder.channels == 4 else None
            opened = found.picture(Channels(canvas, slice(3)), alpha, decoder)
            found.image.close()  # and with it what Pillow has decoded
            yield opened


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


def read_header(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Look at a picture without decoding it, to know what enlarging it would cost.

    Raises:
        ImageError: as `read_image`, as far as the header shows it.
    """
    with _identified(source, max_pixels) as found:
        image = found.image
        # Pillow gives a TIFF's upright size.
        known = found.format in ("JPEG", "PNG", "WEBP") or "exif" in image.info
        turn = found.orientation() if known and found.format != "TIFF" else 1
        size = turned((image.height, image.width), turn)
        return Header(size, found.format, image.has_transparency_data)


@dataclass(frozen=True)
class _Found:
    """A picture that has been opened and may be read."""

    source: Path | bytes
    image: Image.Image
    deep: bool
    name: str

    @property
    def format(self) -> str:
        return "JPEG" if self.image.format == "MPO" else str(self.image.format)

    def decoder(self) -> Decoder:
        return decoder_of(self.source, self.image, self.deep, self.name)

    def orientation(self) -> int:
        with self._metadata() as image:
            return orientation_of(image)

    def picture(self, pixels: Any, alpha: Any, decoder: Decoder) -> Picture[Any]:
        with self._metadata() as image:
            kept = kept_exif(image), kept_xmp(image), kept_dpi(image)
        depth = 16 if self.deep else 8
        return Picture(pixels, alpha, depth, decoder.icc, *kept, self.format, decoder.grey)

    def check_held(self, limit: int | None) -> None:
        held = held_bytes(self.image, self.deep)
        if limit is not None and held > limit:
            width, height = self.image.size
            raise ImageError(
                "too_large",
                f"{self.name} is a {self.format} of {width} x {height} that cannot be read in "
                f"parts: it takes {held / 2**20:,.0f} MiB, over the limit of "
                f"{max(0, limit) / 2**20:,.0f}: raise it (--memory, TUDSR_SERVE_MEMORY), or save "
                "the picture as a PNG without interlacing, a TIFF of short strips or a JPEG that "
                "is not progressive",
            )

    @contextmanager
    def _metadata(self) -> Generator[Image.Image]:
        """What to read tags from. Pillow would decode a PNG to look for what follows its pixels."""
        if self.format != "PNG":
            yield self.image
            return
        with _stream(self.source) as stream:
            head = png_without_pixels(stream)
        with Image.open(io.BytesIO(head), formats=("PNG",)) as image:
            yield image


@contextmanager
def _identified(source: Path | bytes, max_pixels: int) -> Generator[_Found]:
    name = "the picture" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes):
        _check_file(source := Path(source), max_pixels)
    with _stream(source) as stream:
        head = stream.read(_HEAD_BYTES)
        if not head:
            raise ImageError("empty", f"{name} is empty (0 bytes): give a {KNOWN} picture")
        stream.seek(0)
        with _opened(stream, head, name) as image:
            _check_header(image, name, max_pixels)
            if image.format in ("JPEG", "MPO"):
                check_scans(source, name)
            yield _Found(source, image, _is_16_bit(source, head, image, name), name)


def _check_file(path: Path, max_pixels: int) -> None:
    if not path.exists():
        raise ImageError("not_found", f"no file {path}: check the path")
    if not path.is_file():
        raise ImageError("not_readable", f"{path} is not a file: give a {KNOWN} picture")
    # A stored picture takes at most 8 bytes a pixel; twice that leaves room for metadata.
    if (size := path.stat().st_size) > max(16 * max_pixels, 1 << 24):
        raise ImageError(
            "too_large",
            f"{path} has {size:,} bytes, more than a picture of {max_pixels:,} pixels can have: "
            "reduce it or cut it in parts",
        )


def _stream(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise ImageError(
            "not_readable",
            f"cannot read {source}: {error.strerror or error}; check its permissions",
        ) from None


def _opened(stream: BinaryIO, head: bytes, name: str) -> Image.Image:
    try:
        return Image.open(stream, formats=readable())
    except DAMAGED:
        if (remedy := missing(head)) is not None:
            raise ImageError("not_an_image", f"{name} {remedy}") from None
        if looks_like_a_picture(head):
            raise damaged(name, "its header cannot be read") from None
        raise ImageError("not_an_image", f"{name} is not a {KNOWN} picture: convert it") from None


def _check_header(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{name} is {width} x {height}, over the limit of {max_pixels:,} pixels: reduce it or "
            "cut it in parts",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            "too_small", f"{name} is {width} x {height}: each side needs {MIN_SIDE_PX} pixels"
        )
    # A phone's MPO holds a preview beside the photograph, not an animation.
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except DAMAGED as error:
        raise damaged(name, error) from None
    if frames > 1:
        raise ImageError(
            "animated", f"{name} has {frames} frames or pages: save the one you want by itself"
        )


def _is_16_bit(source: Path | bytes, head: bytes, image: Image.Image, name: str) -> bool:
    """Whether samples have 16 bits; refuses what could only be kept by losing something."""
    bits = _header_bits(source, head, image)
    if bits == 16 and image.mode in _MODES_16 and (image.format == "PNG" or _plain_tiff(image)):
        return True
    if bits <= 8 and image.mode in _MODES_8:
        return False
    raise ImageError(
        "unsupported_mode",
        f"{name} is a {image.format} of mode {image.mode} with {bits} bits a sample: save it as "
        "grey or RGB of 8 or 16 bits",
    )


def _header_bits(source: Path | bytes, head: bytes, image: Image.Image) -> int:
    """Bits a sample. A PNG has them at byte 24, in IHDR, which is always its first chunk."""
    if image.format == "PNG":
        return head[24]
    if image.format == "TIFF":
        return max(_tiff_tag(image, BITS_PER_SAMPLE, (1,)))
    if image.format not in ("AVIF", "HEIF"):
        return 8
    data = source if isinstance(source, bytes) else source.read_bytes()  # decoded whole anyway
    return sample_bits(data, image.format)


def _plain_tiff(image: Image.Image) -> bool:
    """Grey (black is 0) or RGB, with straight alpha if any."""
    straight = 1 not in _tiff_tag(image, EXTRA_SAMPLES, ())
    return straight and _tiff_tag(image, PHOTOMETRIC, 0) in (1, 2)


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if isinstance(image, TiffImageFile) else default
