"""What can be measured on one decoded photograph: sharpness, noise, JPEG blocks, a fingerprint."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

Luma = NDArray[np.float32]

_GRID_PX = 8


def luma_of(pixels: NDArray[np.uint8]) -> Luma:
    """Rec. 601 luma, 0..255, of (H, W) grey or (H, W, 3) RGB bytes; not rounded."""
    values = np.asarray(pixels, np.float32)
    return values if values.ndim == 2 else values @ np.array([0.299, 0.587, 0.114], np.float32)


def sharpness(luma: Luma) -> float:
    """Variance of the 4-neighbour Laplacian, grey levels squared: low where nothing is in focus."""
    return float(cv2.Laplacian(luma, cv2.CV_32F).var())


def noise_sigma(luma: Luma) -> float:
    """Standard deviation of white noise, grey levels.

    Donoho's estimate: the median of the finest diagonal Haar coefficients' magnitudes over 0.6745.
    The median ignores edges; texture that covers most of a picture still counts as noise.
    """
    height, width = luma.shape[0] // 2 * 2, luma.shape[1] // 2 * 2
    if min(height, width) == 0:
        return 0.0
    a, b = luma[:height:2, :width:2], luma[:height:2, 1:width:2]
    c, d = luma[1:height:2, :width:2], luma[1:height:2, 1:width:2]
    return float(np.median(np.abs(a - b - c + d)) / 2 / 0.6745)


def blockiness(luma: Luma) -> float:
    """Mean step across the 8-pixel JPEG grid over the mean step elsewhere; 1 means no blocks."""
    on_grid, elsewhere = 0.0, 0.0
    for steps in (np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0)).T):
        at_border = np.arange(1, steps.shape[1] + 1) % _GRID_PX == 0
        if at_border.any():
            on_grid += float(steps[:, at_border].mean())
            elsewhere += float(steps[:, ~at_border].mean())
    return on_grid / elsewhere if elsewhere > 0 else 1.0


def perceptual_hash(luma: Luma) -> int:
    """64 bits that resizing, recompression and small colour changes hardly alter.

    The signs of the 8 x 8 lowest DCT coefficients of the picture at 32 x 32, about their median.
    """
    small = cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA)
    low = np.asarray(dctn(np.asarray(small, np.float64), norm="ortho"))[:8, :8].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
