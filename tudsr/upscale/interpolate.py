"""Enlarging by interpolation, one window of the result at a time.

A cascade needs the interpolated picture tile by tile; computing it whole would hold one more canvas
in memory. Any window equals the same part of the whole result, to rounding: places are known to
float32, which moves a result by up to 2e-5 of the range at ratios that are no power of two.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tudsr.images.picture import Windows
from tudsr.images.resize import resize_box

Method = Literal["bicubic", "bilinear"]
_SUPPORT_PX = 2  # of the wider kernel, Keys'


def enlarge_window(
    image: Windows,
    size: tuple[int, int],
    window: tuple[slice, slice],
    method: Method,
) -> NDArray[np.float32]:
    """One window of ``image`` enlarged to ``size``.

    Pixel centres are at half-integers; weights beyond the border are dropped and the others
    renormalised. ``bicubic`` (Keys, 1981, a = -1/2) equals `bicubic_resize`, ``bilinear`` equals
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Args:
        image: (h, w, 3).
        size: rows and columns of the whole result, none smaller than the image's.
        window: which rows and columns of it are wanted, with start and stop set.
        method: the kernel.

    Returns:
        The window, float32, (rows, columns, 3); bicubic overshoots the range of ``image``.
    """
    rows, top, bottom = _needed(image.shape[0], size[0], window[0])
    columns, left, right = _needed(image.shape[1], size[1], window[1])
    height, width = (span.stop - span.start for span in window)
    kernel = Image.Resampling.BICUBIC if method == "bicubic" else Image.Resampling.BILINEAR
    return resize_box(image[rows, columns], height, width, (left, top, right, bottom), kernel)


def bilinear_resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(h, w, 3) enlarged to (height, width, 3) as in stage 2's training; see `enlarge_window`."""
    window = (slice(0, height), slice(0, width))
    return enlarge_window(image, (height, width), window, "bilinear")


def _needed(length: int, enlarged: int, part: slice) -> tuple[slice, float, float]:
    """The source pixels that a span of the result needs, and where in them it begins and ends."""
    first, last = part.start * length / enlarged, part.stop * length / enlarged
    start = max(0, math.floor(first) - _SUPPORT_PX)
    stop = min(length, math.ceil(last) + _SUPPORT_PX)
    return slice(start, stop), first - start, last - start
