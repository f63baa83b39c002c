"""A picture with everything that should survive an enlargement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import TypeVar

_SOFTWARE = 0x0131


class Windows(Protocol):
    """What gives rows or windows of a picture: an array, or something larger than memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, ...)."""
        ...

    def __getitem__(self, area: Any, /) -> NDArray[Any]:
        """Of ``[rows]`` or ``[rows, columns]``, both slices: that part as an array."""
        ...


P = TypeVar("P", bound=Windows, default=NDArray[np.float32])


@dataclass(frozen=True)
class Picture(Generic[P]):
    """Pixels, whole or by windows, and what belongs to them.

    Attributes:
        pixels: (H, W, 3) float32 RGB in [0, 1], upright, in the picture's own colour space: an
            array, or, of an opened picture, `Windows`.
        alpha: (H, W) float32 in [0, 1], 1 is opaque; None for a picture without transparency.
        depth: bits per channel of the source, 8 or 16.
        icc: ICC profile of the pixels, or None (sRGB is meant).
        exif: EXIF block as `PIL.Image.Exif.tobytes` makes it, without an orientation, or None.
        xmp: XMP packet, its orientation set to upright, or None.
        dpi: horizontal and vertical resolution, dots an inch, or None.
        format: what it was read from: ``JPEG``, ``PNG``, ``WEBP``, ``TIFF``, ``GIF``,
            ``BMP``, ``AVIF`` or ``HEIF``.
        grey: whether it was stored without colours; R, G and B are the same then.
    """

    pixels: P
    alpha: P | None = None
    depth: int = 8
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "PNG"
    grey: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def untinted(self, band: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows made of this picture, (k, W, 3): R, G and B averaged where it is grey.

        A model is free to tint what it restores; its three channels are three opinions on the one
        grey there is.
        """
        if not self.grey:
            return band
        return np.repeat(band.mean(axis=2, keepdims=True), 3, axis=2)

    def stripped(self) -> Picture[P]:
        """A copy without EXIF, XMP and resolution; the colour profile stays, as colours need it."""
        return replace(self, exif=None, xmp=None, dpi=None)

    def signed(self, software: str) -> Picture[P]:
        """A copy whose EXIF names ``software`` as its maker (tag Software, 0x0131)."""
        exif = Image.Exif()
        if self.exif is not None:
            exif.load(self.exif)
        exif[_SOFTWARE] = software
        return replace(self, exif=exif.tobytes())
