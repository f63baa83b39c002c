"""NIQE, the natural image quality evaluator (Mittal, Soundararajan & Bovik 2013): no reference.

Lower is better. The model of pristine images is the authors', as BasicSR distributes it
(niqe_parameters.txt says where from and under which licence).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from tudsr.errors import ImageError
from tudsr.evaluate.metrics import luma
from tudsr.images.resize import bicubic_resize

Plane = NDArray[np.float64]

BLOCK_PX = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = np.arange(0.2, 10.001, 0.001)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


def niqe(image: NDArray[np.float32]) -> float:
    """NIQE of (H, W, 3) RGB in [0, 1]; both sides need at least 96 pixels.

    Raises:
        ImageError: a picture without a whole block (code ``too_small``).
    """
    plane = np.rint(luma(image))
    rows, columns = (side // BLOCK_PX for side in plane.shape)
    if rows * columns == 0:
        height, width = plane.shape
        raise ImageError("too_small", f"NIQE needs {BLOCK_PX} x {BLOCK_PX}, got {width} x {height}")
    plane = plane[: rows * BLOCK_PX, : columns * BLOCK_PX]
    half = bicubic_resize(
        (plane / 255).astype(np.float32), plane.shape[0] // 2, plane.shape[1] // 2
    )
    features = np.hstack(
        [
            _block_features(plane, BLOCK_PX),
            _block_features(half.astype(np.float64) * 255, BLOCK_PX // 2),
        ]
    )
    return _distance(features)


def _distance(features: Plane) -> float:
    """Mahalanobis-like distance of the blocks' features to the pristine model's."""
    pristine_mean, pristine_cov, _ = _parameters()
    mean = np.nanmean(features, axis=0)
    whole = features[~np.isnan(features).any(axis=1)]
    covariance = np.cov(whole, rowvar=False) if len(whole) > 1 else np.zeros_like(pristine_cov)
    difference = pristine_mean.ravel() - mean
    inverse = np.linalg.pinv((pristine_cov + covariance) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def _block_features(plane: Plane, block_px: int) -> Plane:
    """18 features of each block of the locally normalised plane, column by column."""
    normalised = _normalised(plane)
    rows, columns = (side // block_px for side in plane.shape)
    blocks = (
        normalised[r * block_px : (r + 1) * block_px, c * block_px : (c + 1) * block_px]
        for c in range(columns)
        for r in range(rows)
    )
    return np.array([_features(block) for block in blocks])


def _normalised(plane: Plane) -> Plane:
    """Mean-subtracted, contrast-normalised luma (Eq. 1 to 3)."""
    window = _parameters()[2]

    def smooth(x: Plane) -> Plane:
        return cv2.filter2D(x, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE).astype(float)

    mean = smooth(plane)
    deviation = np.sqrt(np.abs(smooth(plane**2) - mean**2))
    return (plane - mean) / (deviation + 1)


def _features(block: Plane) -> list[float]:
    """Generalised-Gaussian fits of the block and of its products with four neighbours."""
    shape, left, right = _fit(block)
    features = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _fit(block * np.roll(block, shift, axis=(0, 1)))
        mean = (right - left) * float(gamma(2 / shape) / gamma(1 / shape))
        features += [shape, mean, left, right]
    return features


def _fit(values: Plane) -> tuple[float, float, float]:
    """Shape and two scales of an asymmetric generalised Gaussian, by moments (Eq. 7 to 11)."""
    flat = values.ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt(np.mean(flat[flat < 0] ** 2)) if (flat < 0).any() else np.nan
        right = np.sqrt(np.mean(flat[flat > 0] ** 2)) if (flat > 0).any() else np.nan
        ratio = left / right
        r = np.mean(np.abs(flat)) ** 2 / np.mean(flat**2)
        r = r * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = float(_SHAPES[np.argmin((_RATIOS - r) ** 2)])
    scale = float(np.sqrt(gamma(1 / shape) / gamma(3 / shape)))
    return shape, float(left) * scale, float(right) * scale


@lru_cache(maxsize=1)
def _parameters() -> tuple[Plane, Plane, Plane]:
    """Mean (1, 36), covariance (36, 36) and the 7 x 7 window of the pristine model."""
    path = files("tudsr.evaluate").joinpath("niqe_parameters.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays["mean"], arrays["covariance"], arrays["window"]
