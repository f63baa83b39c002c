"""How visible the borders of tiles are: the seam ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Enlarging by 8 leaves a faint lattice of 8 pixels, the codec one of 4: control lines that keep a
# tile line's place in it see the same lattice (docs/log.md).
_CONTROL_PX = (-16, -8, 8, 16)


def seam_ratio(
    image: NDArray[np.float32], lines_y: Sequence[int], lines_x: Sequence[int]
) -> float | None:
    """Mean step across the tile lines over the mean step across lines 8 and 16 pixels beside them.

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
            near = [at + d for d in _CONTROL_PX if 0 <= at + d < len(steps)]
            if 0 <= at < len(steps) and near:
                on.append(float(steps[at]))
                beside.append(float(np.mean(steps[near])))
    return float(np.sum(on) / max(np.sum(beside), 1e-12)) if on else None
