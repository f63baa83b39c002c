"""How visible the borders of tiles are: the seam ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def seam_ratio(
    image: NDArray[np.float32],
    untiled: NDArray[np.float32],
    lines_y: Sequence[int],
    lines_x: Sequence[int],
) -> float | None:
    """Mean step across the tile lines over the mean step there when enlarged in one tile.

    1 is invisible; hard tiles reach several. The same picture in one tile is the control: with the
    few lines of a crop, what the picture shows there and the codec's lattice decide any comparison
    with neighbouring lines (docs/log.md). A line at ``k`` lies between pixels k-1 and k. None
    without lines inside the picture.

    Args:
        image: (H, W, 3), enlarged tile by tile.
        untiled: (H, W, 3), the same input enlarged in one tile.
        lines_y: rows where tiles meet.
        lines_x: columns where tiles meet.
    """
    on, control = (seam_steps(x, lines_y, lines_x) for x in (image, untiled))
    return on / max(control, 1e-12) if on or control else None


def seam_steps(image: NDArray[np.float32], lines_y: Sequence[int], lines_x: Sequence[int]) -> float:
    """The mean absolute step across each line of an image (H, W, 3), summed over lines inside it.

    Over several pictures, the ratio of two such sums weighs all lines alike; a mean of ratios is
    decided by the picture with least on its lines.
    """
    return sum(
        _steps(image, axis, [k for k in lines if 0 < k < image.shape[axis]])
        for axis, lines in ((0, lines_y), (1, lines_x))
    )


def _steps(image: NDArray[np.float32], axis: int, lines: Sequence[int]) -> float:
    """Sum over lines of the mean absolute step across each."""
    if not lines:
        return 0.0
    at = np.asarray(lines)
    across = np.abs(image.take(at, axis) - image.take(at - 1, axis))
    return float(across.mean(axis=(1 - axis, 2)).sum())
