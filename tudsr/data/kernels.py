"""Blur kernels of the degradation chain (Real-ESRGAN, arXiv:2107.10833, section 3)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from tudsr.errors import DataError

Kernel = NDArray[np.float32]

# How often each shape is drawn; the last two numbers of a shape's name say whether both axes
# share one sigma and what falls off: a Gaussian, a generalised Gaussian or a plateau.
SHAPES: dict[str, float] = {
    "iso": 0.45,
    "aniso": 0.25,
    "generalised_iso": 0.12,
    "generalised_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}
SIDES = tuple(range(7, 22, 2))
SINC_PROB = 0.1
_GENERALISED_BETA = (0.5, 4.0)
_PLATEAU_BETA = (1.0, 2.0)


def draw_kernel(rng: np.random.Generator, sigma: tuple[float, float]) -> Kernel:
    """A random blur kernel of one of the shapes, or a sinc kernel one time in ten.

    Args:
        rng: source of every draw.
        sigma: bounds of the standard deviation along each axis, pixels.

    Returns:
        (k, k) float32 with k odd in 7..21, summing to 1.
    """
    side = int(rng.choice(SIDES))
    if rng.random() < SINC_PROB:
        return draw_sinc(rng, side)
    shape = str(rng.choice(list(SHAPES), p=list(SHAPES.values())))
    return draw_shape(rng, shape, side, sigma)


def draw_shape(
    rng: np.random.Generator, shape: str, side: int, sigma: tuple[float, float]
) -> Kernel:
    """A kernel of the named shape (a key of SHAPES) with random widths, angle and exponent."""
    if shape not in SHAPES:
        raise DataError(f"no kernel shape {shape!r}: give one of {', '.join(SHAPES)}")
    sigma_x = sigma_y = float(rng.uniform(*sigma))
    angle = 0.0
    if shape.endswith("aniso"):
        sigma_y, angle = float(rng.uniform(*sigma)), float(rng.uniform(-math.pi, math.pi))
    distance = _mahalanobis(side, sigma_x, sigma_y, angle)
    if shape.startswith("generalised"):
        return _normalised(np.exp(-0.5 * distance ** _draw_beta(rng, _GENERALISED_BETA)))
    if shape.startswith("plateau"):
        return _normalised(1 / (1 + distance ** _draw_beta(rng, _PLATEAU_BETA)))
    return _normalised(np.exp(-0.5 * distance))


def draw_sinc(rng: np.random.Generator, side: int | None = None) -> Kernel:
    """A sinc kernel of random cutoff, which rings as sharpening and codecs do.

    Short kernels start at a cutoff of pi/3, since they cannot hold a lower one's ripples.
    """
    side = int(rng.choice(SIDES)) if side is None else side
    lowest = math.pi / 3 if side < 13 else math.pi / 5
    return sinc_kernel(side, float(rng.uniform(lowest, math.pi)))


def sinc_kernel(side: int, cutoff: float) -> Kernel:
    """The ideal circular low-pass filter, windowed to (side, side) and normalised.

    h(r) = w J1(w r) / (2 pi r), and w² / (4 pi) at r = 0, for a cutoff w in radians a pixel.
    """
    x, y = _grid(side)
    radius = np.hypot(x, y)
    radius[side // 2, side // 2] = 1.0
    kernel = cutoff * j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    return _normalised(kernel)


def compact(kernel: Kernel, lost: float = 1e-4) -> Kernel:
    """The kernel without outer rings that hold less than ``lost`` of its weight in all.

    1e-4 of the weight is at most a fortieth of a grey level. Narrow Gaussians are drawn into wide
    squares; filtering costs by the square.
    """
    weights, side, cut = np.abs(kernel), kernel.shape[0], 0
    total = float(weights.sum())
    while cut < side // 2:
        inner = weights[cut + 1 : side - cut - 1, cut + 1 : side - cut - 1]
        if total - float(inner.sum()) > lost:
            break
        cut += 1
    if cut == 0:
        return kernel
    return _normalised(kernel[cut : side - cut, cut : side - cut].astype(np.float64))


def separate(kernel: Kernel, error: float = 1e-4) -> tuple[Kernel, Kernel] | None:
    """(across, down) whose outer product is the kernel up to ``error`` in all; None if none is.

    So are Gaussians with equal or upright axes, and whatever is close enough to one.
    """
    centre = kernel.shape[0] // 2
    middle = float(kernel[centre, centre])
    if middle <= 0:
        return None
    across, down = kernel[centre] / np.float32(middle), kernel[:, centre].copy()
    if float(np.abs(np.outer(down, across) - kernel).sum()) > error:
        return None
    return across, down


def _mahalanobis(side: int, sigma_x: float, sigma_y: float, angle: float) -> NDArray[np.float64]:
    """Squared distance to the centre in units of the rotated sigmas, (side, side)."""
    x, y = _grid(side)
    cos, sin = math.cos(angle), math.sin(angle)
    along, across = cos * x + sin * y, cos * y - sin * x
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def _draw_beta(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """An exponent: below or above 1 equally often, whatever the bounds' lengths."""
    low, high = bounds
    return float(rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high))


@cache
def _offsets(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    offset = np.arange(side, dtype=np.float64) - side // 2
    return np.meshgrid(offset, offset)[0], np.meshgrid(offset, offset)[1]


def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Column and row offsets from the centre of a kernel."""
    if side < 1 or side % 2 == 0:
        raise DataError(f"a kernel of {side} pixels has no centre: its side must be odd")
    return _offsets(side)


def _normalised(kernel: NDArray[np.float64]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)
