"""Enlarging by interpolation, one window of the result at a time.

A cascade needs the interpolated picture tile by tile; computing it whole would hold one more canvas
in memory. Any window equals the same part of the whole result.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tudsr.images.picture import Windows

Method = Literal["bicubic", "bilinear"]
_SUPPORT = {"bicubic": 2, "bilinear": 1}


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
    rows, top, bottom = _weights(image.shape[0], size[0], window[0], method)
    columns, left, right = _weights(image.shape[1], size[1], window[1], method)
    part = image[top:bottom, left:right]
    wide = np.matmul(columns, part)  # (h', w, 3): each row of the part, columns enlarged
    return np.tensordot(rows, wide, axes=(1, 0))


def bilinear_resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(h, w, 3) enlarged to (height, width, 3) as in stage 2's training; see `enlarge_window`."""
    window = (slice(0, height), slice(0, width))
    return enlarge_window(image, (height, width), window, "bilinear")


def _weights(
    length: int, enlarged: int, part: slice, method: Method
) -> tuple[NDArray[np.float32], int, int]:
    """Weights (wanted, used) of the source pixels [first, last) that a span of the result needs."""
    centres = (np.arange(part.start, part.stop) + 0.5) * (length / enlarged)
    support = _SUPPORT[method]
    first = max(0, int(np.floor(centres[0] - support)))
    last = min(length, int(np.ceil(centres[-1] + support)))
    distance = np.abs(centres[:, None] - (np.arange(first, last) + 0.5))
    kernel = _bicubic(distance) if method == "bicubic" else np.maximum(0, 1 - distance)
    return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32), first, last


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -1/2 for distances x >= 0."""
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
