"""How visible the borders of tiles are: the seam ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CONTROL_PX = 4


def seam_ratio(
    image: NDArray[np.float32], lines_y: Sequence[int], lines_x: Sequence[int]
) -> float | None:
    """Mean step across the tile lines over the mean step across lines four pixels beside them.

    1 is invisible; hard tiles reach several. The neighbouring lines are the control, so that what
    the picture shows there counts on both sides. A line at ``k`` lies between pixels k-1 and k.
    None without lines.
    """
    on: list[float] = []
    beside: list[float] = []
    for axis, lines in ((0, lines_y), (1, lines_x)):
        steps = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2))
        for line in lines:
            at = line - 1
            near = [i for i in (at - _CONTROL_PX, at + _CONTROL_PX) if 0 <= i < len(steps)]
            if 0 <= at < len(steps) and near:
                on.append(float(steps[at]))
                beside.append(float(np.mean(steps[near])))
    return float(np.sum(on) / max(np.sum(beside), 1e-12)) if on else None
