"""What lies under pixels that are transparent, wholly or nearly."""

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
# Less of a pixel than this is hardly seen, and its colour is often no more than rounding. It is
# drawn towards what lies close by: the nearest firm pixel, however far, would bleach a shadow.
FAINT = 0.1
AROUND_SIGMA_PX = 2.0

Floats = NDArray[np.float32]


@contextmanager
def filled(pixels: Windows, alpha: Windows, folder: Path | None = None) -> Generator[Windows]:
    """Pixels, the transparent of which have the colour of what is visible around them.

    What is stored under alpha 0 is arbitrary, often black, and next to it hardly better;
    interpolation and model would draw it into the visible edge. Below `FAINT` a pixel is drawn
    towards the colours around it, weighted by their alpha; at 0 it has the nearest visible one's.
    Where nothing visible is within `REACH_PX`, colours may stay.

    Args:
        pixels: (H, W, 3).
        alpha: (H, W), in [0, 1].
        folder: for temporary files; see `Canvas`.
    """
    if all((alpha[rows] >= FAINT).all() for rows in bands(alpha.shape[0], alpha.shape[1])):
        yield pixels
        return
    with closing(Canvas(alpha.shape[0], alpha.shape[1], folder)) as canvas:
        for block, around, inner in blocks(alpha.shape[0], alpha.shape[1], REACH_PX):
            canvas[block] = _filled(pixels[around], alpha[around])[inner]
        yield canvas


def _filled(pixels: Floats, alpha: Floats) -> Floats:
    from scipy.ndimage import distance_transform_edt

    visible = alpha > 0
    if (alpha >= FAINT).all() or not visible.any():
        return pixels
    firm = _firm(pixels, alpha)
    nearest = distance_transform_edt(~visible, return_distances=False, return_indices=True)
    return firm[tuple(np.asarray(nearest))]


def _firm(pixels: Floats, alpha: Floats) -> Floats:
    """Faint pixels have the less of their own colour, the fainter they are."""
    import cv2

    weight = alpha[:, :, None]
    colours = cv2.GaussianBlur(pixels * weight, (0, 0), AROUND_SIGMA_PX)
    seen = cv2.GaussianBlur(alpha, (0, 0), AROUND_SIGMA_PX)[:, :, None]
    own = np.minimum(weight / FAINT, 1)
    around = colours / np.maximum(seen, np.finfo(np.float32).tiny)
    return np.asarray(own * pixels + (1 - own) * around, np.float32)
