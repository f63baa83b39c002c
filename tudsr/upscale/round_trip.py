"""What enlarging and reducing again leaves of a plane, on the plane's own grid.

Bicubic enlarging (U) and bicubic reducing (D) are linear, so D·U is nine weights to a place along
each axis. Away from a picture's borders they are the same everywhere where the ratio is whole.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tudsr.images.resize import bicubic_resize

Floats = NDArray[np.float32]

REACH_PX = 4  # both kernels reach two pixels of the input far
_ROUNDING = 1e-6
_SLOW_SHARE = 0.5


class RoundTrip:
    """D·U along one axis of a picture.

    Args:
        length: pixels of the axis.
        enlarged: pixels after enlarging.
    """

    def __init__(self, length: int, enlarged: int) -> None:
        self.taps = _taps(length, enlarged)

    def part(self, span: slice) -> AxisPart:
        """For a part of the axis; beyond it lies nothing."""
        return AxisPart(self.taps[span])


class AxisPart:
    """D·U along a part of an axis, from weights (length, 9)."""

    def __init__(self, taps: Floats) -> None:
        self.taps = taps

    @cached_property
    def usual(self) -> Floats:
        """The weights (9,) in the middle."""
        middle: Floats = self.taps[len(self.taps) // 2]
        return middle

    @cached_property
    def others(self) -> NDArray[np.intp]:
        """Where the weights are not the usual ones."""
        return np.flatnonzero(np.abs(self.taps - self.usual).max(axis=1) > _ROUNDING)

    def along_rows(self, plane: Floats) -> Floats:
        """(H, W) to (H, W): ``out[i] = sum over k of taps[i, k] · plane[i + k - 4]``."""
        if len(self.others) > _SLOW_SHARE * len(plane):
            return self._weighted(plane, np.arange(len(plane)))
        import cv2

        kernel = self.usual[:, None]
        filtered = cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
        out: Floats = np.asarray(filtered, np.float32)
        if len(self.others):
            out[self.others] = self._weighted(plane, self.others)
        return out

    def _weighted(self, plane: Floats, at: NDArray[np.intp]) -> Floats:
        padded = np.pad(plane, ((REACH_PX, REACH_PX), (0, 0)))
        out = np.zeros((len(at), plane.shape[1]), np.float32)
        for k in range(self.taps.shape[1]):
            out += self.taps[at, k, None] * padded[at + k]
        return out


def there_and_back(plane: Floats, rows: AxisPart, columns: AxisPart) -> Floats:
    """D·U of (H, W) along both axes."""
    down = np.ascontiguousarray(rows.along_rows(plane).T)
    return np.ascontiguousarray(columns.along_rows(down).T)


def _taps(length: int, enlarged: int) -> Floats:
    """Row i: what D·U takes from i-4 to i+4 along an axis of ``length`` enlarged and reduced again.

    Read off from impulses 16 apart, so that their answers do not meet.
    """
    at = np.arange(length)
    impulses = np.zeros((length, 16), np.float32)
    impulses[at, at % 16] = 1
    answers = bicubic_resize(bicubic_resize(impulses, enlarged, 16), length, 16)
    taps = np.zeros((length, 2 * REACH_PX + 1), np.float32)
    for k in range(-REACH_PX, REACH_PX + 1):
        inside = at[(at + k >= 0) & (at + k < length)]
        taps[inside, k + REACH_PX] = answers[inside, (inside + k) % 16]
    return taps
