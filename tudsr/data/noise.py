"""Gaussian and Poisson noise by table: a sample is a random place in a list of quantiles.

Two bytes a sample instead of a rejection method's many draws. Results are rounded to 256 grey
levels afterwards, so 2^16 quantiles of the Gaussian (up to 4.2 standard deviations) and 2^10 of
each Poisson distribution (variance within 1 %) are indistinguishable from the exact ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, pdtr

from tudsr.data.recipe import Noise

Levels = NDArray[np.float32]

_QUANTILE_BITS = 10
_QUANTILES = 1 << _QUANTILE_BITS
# Looked up at once: what lies between the steps stays in a core's cache.
_PART = 1 << 16
_NOTHING = (0.0, 0.0, 0.0, 0.0)


def noise_for(image: Levels, noise: Noise) -> Levels:
    """The noise to add to an (H, W, 3) image of grey levels 0..255: (H, W, 3), in grey levels."""
    if noise.gaussian:
        made = _gaussian((image.shape[0], image.shape[1]), noise)
    else:
        made = _poisson(_source(image, noise), noise)
    return (
        made if made.ndim == 3 else np.asarray(cv2.cvtColor(made, cv2.COLOR_GRAY2RGB), np.float32)
    )


def rounded(image: Levels) -> NDArray[np.uint8]:
    """Whole grey levels, 0..255; what lies beyond is cut off."""
    return np.asarray(cv2.add(image, cast(Any, _NOTHING), dtype=cv2.CV_8U), np.uint8)


def _gaussian(size: tuple[int, int], noise: Noise) -> Levels:
    shape = size if noise.grey else (*size, 3)
    table = _normal_quantiles() * np.float32(noise.strength)
    return np.asarray(cv2.LUT(_uniform16(shape, noise.seed), table), np.float32)


def _source(image: Levels, noise: Noise) -> NDArray[np.uint8]:
    """What shot noise is drawn for, rounded to whole levels: the image or its luma."""
    grey = noise.grey
    return rounded(
        np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) if grey else image
    )


def _poisson(levels: NDArray[np.uint8], noise: Noise) -> Levels:
    """Zero-mean shot noise: Poisson counts minus their mean.

    The number of photons at white is the power of two that holds the image's 8-bit grey levels,
    so flat pictures get more noise, as in Real-ESRGAN.
    """
    distinct = max(2, int(np.count_nonzero(_histogram(levels))))
    table = _shot_noise(int(distinct - 1).bit_length()) * np.float32(noise.strength)
    quantiles = _uniform16((levels.size,), noise.seed) >> (16 - _QUANTILE_BITS)
    made = np.empty(levels.size, np.float32)
    for start in range(0, levels.size, _PART):
        part = slice(start, start + _PART)
        places = levels.ravel()[part].astype(np.intp) << _QUANTILE_BITS
        places += quantiles[part]
        np.take(table, places, out=made[part], mode="clip")
    return made.reshape(levels.shape)


def _histogram(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = levels.reshape(levels.shape[0], -1)
    return np.asarray(cv2.calcHist([rows], [0], None, [256], [0, 256]), np.float32)


def _uniform16(shape: tuple[int, ...], seed: int) -> NDArray[np.uint16]:
    count = int(np.prod(shape))
    raw = np.random.SFC64(seed).random_raw(-(-count // 4))
    return np.asarray(raw, "<u8").view(np.uint16)[:count].reshape(shape)


@cache
def _normal_quantiles() -> Levels:
    return ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)


@cache
def _shot_noise(photon_bits: int) -> Levels:
    """Quantiles of (count / photons - level / 255) · 255, by level and then by probability."""
    photons = 1 << photon_bits
    probability = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    counts = np.arange(photons + 8 * int(np.sqrt(photons)) + 8)
    table = np.empty((256, _QUANTILES), np.float32)
    for level in range(256):
        below = pdtr(counts, level / 255 * photons)
        count = np.searchsorted(below, probability)
        table[level] = (count / photons - level / 255) * 255
    return table.ravel()
