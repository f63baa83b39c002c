"""What will be done to one crop, drawn beforehand: the degradation chain as data.

Real-ESRGAN (arXiv:2107.10833): blur, resize, noise and JPEG, twice; the last resize, a sinc filter
and the last JPEG come in either order.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tudsr.data.kernels import Kernel, draw_kernel, draw_sinc
from tudsr.data.presets import Pass, Preset

Size = tuple[int, int]

# Plain kernels, not antialiased: the aliasing of careless software is part of what is imitated.
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Noise:
    """One round's noise.

    Attributes:
        gaussian: Gaussian, else Poisson.
        grey: the same in each channel, else each its own.
        strength: Gaussian's standard deviation in grey levels; Poisson's factor.
        seed: of the draws themselves.
    """

    gaussian: bool
    grey: bool
    strength: float
    seed: int


@dataclass(frozen=True)
class Round:
    """Blur (or none), resize to (height, width) by one of OpenCV's interpolations, noise."""

    blur: Kernel | None
    size: Size
    interpolation: int
    noise: Noise


@dataclass(frozen=True)
class Recipe:
    """A round, JPEG, a round, then the last resize with its sinc filter and the last JPEG.

    Attributes:
        first: of the two rounds.
        first_quality: of the JPEG between the rounds.
        second: of the two rounds.
        size: (height, width) of the result.
        interpolation: of the last resize.
        sinc: filter after it, or none.
        last_quality: of the last JPEG.
        jpeg_last: whether that JPEG comes after the resize or before.
    """

    first: Round
    first_quality: int
    second: Round
    size: Size
    interpolation: int
    sinc: Kernel | None
    last_quality: int
    jpeg_last: bool


def draw_recipe(ranges: Preset, source: Size, target: Size, rng: np.random.Generator) -> Recipe:
    """Draw all parameters for a crop of size ``source`` that ends at ``target``."""
    return Recipe(
        first=_draw_round(ranges.first, source, rng),
        first_quality=round(rng.uniform(*ranges.first.jpeg)),
        second=_draw_round(ranges.second, target, rng),
        size=target,
        interpolation=int(rng.choice(_INTERPOLATIONS)),
        sinc=draw_sinc(rng) if rng.random() < ranges.final_sinc_prob else None,
        last_quality=round(rng.uniform(*ranges.second.jpeg)),
        jpeg_last=bool(rng.random() < 0.5),
    )


def draw_noise(ranges: Pass, rng: np.random.Generator) -> Noise:
    """Kind, channels, strength and seed of one round's noise."""
    gaussian = bool(rng.random() < ranges.gaussian_prob)
    grey = bool(rng.random() < ranges.grey_prob)
    strength = float(rng.uniform(*(ranges.noise if gaussian else ranges.poisson)))
    return Noise(gaussian, grey, strength, int(rng.integers(2**63)))


def _draw_round(ranges: Pass, around: Size, rng: np.random.Generator) -> Round:
    """A round whose resize goes to a random factor of the size ``around``: up, down or itself."""
    blur = draw_kernel(rng, ranges.sigma) if rng.random() < ranges.blur_prob else None
    low, high = ranges.resize
    direction = rng.choice(3, p=ranges.resize_probs)
    factor = (rng.uniform(1, high), rng.uniform(low, 1), 1.0)[direction]
    size = max(1, round(around[0] * factor)), max(1, round(around[1] * factor))
    return Round(blur, size, int(rng.choice(_INTERPOLATIONS)), draw_noise(ranges, rng))
