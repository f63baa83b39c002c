"""How far an input is to be believed: what restoring took away from it, beside what it left.

What a reduced result differs from its input by is either the model's drift, which back-projection
should undo, or noise, blur and compression that the model has removed, which it would put back.
For the best result in squared error the first one's share of the energy decides (Wiener). Drift
goes with the picture's own detail, damage does not, so the ratio of the two tells them apart.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Area

Floats = NDArray[np.float32]

# Of the shipped model's results those on 41 of 42 clean inputs have lower ratios, those on
# 78 of 84 mildly damaged ones higher ones (docs/log.md).
CLEAN_RATIO = 0.35
_FALL = 4  # power by which trust falls from there: 0.24 at a ratio of 0.5
_FINE_SIGMA_PX, _PLACE_SIGMA_PX = 1.0, 4.0  # of detail, and of what counts as one place
_LEAST_DETAIL = (1 / 255) ** 2  # a grey level: below it there is no detail to go by
_LEAST_CHANGE = 1e-7


class Trust:
    """Collects the ratio over blocks of a picture; ``share`` is the verdict.

    The ratio is the geometric mean, over places, of what fine detail of the difference has over
    what it has in the reduced result (root mean squares, all channels together).
    """

    reach_px = 21  # of both kernels

    def __init__(self) -> None:
        self._logs, self._places = 0.0, 0

    def look(self, lr: Floats, reduced: Floats, inner: Area) -> None:
        """Take in the part ``inner`` of a block, (h, w, 3) in [0, 1], with `reach_px` around it."""
        change = _energy(lr - reduced)[inner] + _LEAST_CHANGE
        detail = _energy(reduced)[inner] + _LEAST_DETAIL
        self._logs += float(np.log(change / detail).sum(dtype=np.float64))
        self._places += change.size

    @property
    def ratio(self) -> float:
        """What was taken away over what is there; 0 before anything was seen."""
        return math.exp(self._logs / self._places / 2) if self._places else 0.0

    @property
    def share(self) -> float:
        """1 for an input that looks undamaged, towards 0 the more was taken away from it."""
        return min(1.0, (CLEAN_RATIO / max(self.ratio, 1e-6)) ** _FALL)


def _energy(planes: Floats) -> Floats:
    """(h, w) mean square of fine detail around each place."""
    fine = planes - _blurred(planes, _FINE_SIGMA_PX)
    return _blurred(np.square(fine).mean(axis=2), _PLACE_SIGMA_PX)


def _blurred(planes: Floats, sigma: float) -> Floats:
    import cv2

    blurred = cv2.GaussianBlur(planes, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)
