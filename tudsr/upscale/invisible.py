"""What lies under transparent pixels."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Canvas, bands, blocks
from tudsr.images.picture import Windows

# So far around a block a visible pixel is looked for. What is farther from any is so far outside
# the visible picture that its colour has next to no say.
REACH_PX = 64

Floats = NDArray[np.float32]


@contextmanager
def filled(pixels: Windows, alpha: Windows, folder: Path | None = None) -> Generator[Windows]:
    """Pixels, the wholly transparent of which have the colour of the nearest visible one.

    What is stored under alpha 0 is arbitrary, often black; interpolation and model would draw it
    into the visible edge. Where nothing visible is within `REACH_PX`, colours may stay.

    Args:
        pixels: (H, W, 3).
        alpha: (H, W).
        folder: for temporary files; see `Canvas`.
    """
    if all((alpha[rows] > 0).all() for rows in bands(alpha.shape[0], alpha.shape[1])):
        yield pixels
        return
    with closing(Canvas(alpha.shape[0], alpha.shape[1], folder)) as canvas:
        for block, around, inner in blocks(alpha.shape[0], alpha.shape[1], REACH_PX):
            canvas[block] = _filled(pixels[around], alpha[around] > 0)[inner]
        yield canvas


def _filled(pixels: Floats, visible: NDArray[np.bool_]) -> Floats:
    from scipy.ndimage import distance_transform_edt

    if visible.all() or not visible.any():
        return pixels
    nearest = distance_transform_edt(~visible, return_distances=False, return_indices=True)
    return pixels[tuple(np.asarray(nearest))]
