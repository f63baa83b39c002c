"""Whether an input looks damaged: soft for its size, or grainy.

A photograph that was reduced as it should be has detail up to its pixel grid. What matters is the
share that the finest of it has of all fine detail: blur takes it away, and white noise is nothing
else where the picture itself is flat. The finest detail is seen by second differences, one after
the other in both directions (Immerkær, 1996), which an edge along rows or columns does not answer
to: noise does, and drawings made of such edges are not soft as long as either direction by itself
sees them. Compression alone moves all of this little (docs/log.md has the figures).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Area
from tudsr.images.picture import Windows

Floats = NDArray[np.float32]

SOFT_SHARE, SHARP_SHARE = 0.16, 0.55  # soft is what is below both, crossed and along
GRAIN_SHARE = 0.7  # grainy is what is above it where there is least detail
WINDOW_PX = 192  # side of the windows that are looked at
_LEAST_DETAIL = 2.0  # grey levels squared: below it there is rounding, and grain that nobody sees
_LEAST_PLACES = 0.02  # of all: with fewer that have any detail, nothing is said
_FLATTEST = 0.2  # share of the places with detail where grain is looked for
_FINE_SIGMA_PX, _PLACE_SIGMA_PX = 2.0, 3.0  # of detail, and of what counts as one place
_MARGIN_PX = 6  # of a window, not judged: its surroundings are missing
# White noise keeps its energy in both.
_ALONG = (np.array([[1, -2, 1]]) / np.sqrt(6)).astype(np.float32)
_CROSSED = _ALONG * _ALONG.T


class Fineness(NamedTuple):
    """Shares of the finest detail in all fine detail, root mean squares; about 1 for white noise.

    Attributes:
        crossed: of second differences in both directions; geometric mean over places with detail.
        along: likewise, of those in one direction, rows and columns together.
        flattest: as ``crossed``, over the places that have least detail.
    """

    crossed: float
    along: float
    flattest: float


def looks_damaged(pixels: Windows) -> bool:
    """Whether (h, w, 3) in [0, 1] looks soft or grainy, by four small windows of it."""
    seen = fineness(pixels)
    if seen is None:
        return False
    soft = seen.crossed < SOFT_SHARE and seen.along < SHARP_SHARE
    return soft or seen.flattest > GRAIN_SHARE


def fineness(pixels: Windows) -> Fineness | None:
    """How fine the detail of (h, w, 3) in [0, 1] is; None where there is too little of it."""
    looks = [_look(np.asarray(pixels[area])) for area in _windows(*pixels.shape[:2])]
    crossed, along, fine = np.concatenate(looks, axis=1)
    detailed = fine >= _LEAST_DETAIL
    if not fine.size or detailed.mean() < _LEAST_PLACES:
        return None
    crossed, along, fine = crossed[detailed], along[detailed], fine[detailed]
    flattest = fine <= np.quantile(fine, _FLATTEST)
    return Fineness(
        _share(crossed, fine), _share(along, fine), _share(crossed[flattest], fine[flattest])
    )


def _share(finest: Floats, fine: Floats) -> float:
    return float(np.exp(np.log((finest + 0.02) / (fine + 0.02)).mean(dtype=np.float64) / 2))


def _look(window: Floats) -> Floats:
    """Energies of a window's finest detail, crossed and along, and of all that is fine; (3, n)."""
    import cv2

    levels = window * np.float32(255)
    crossed = cv2.filter2D(levels, -1, _CROSSED)
    rows, columns = (cv2.filter2D(levels, -1, kernel) for kernel in (_ALONG, _ALONG.T))
    fine = levels - cv2.GaussianBlur(levels, (0, 0), _FINE_SIGMA_PX)
    along = (_energy(rows) + _energy(columns)) / 2
    return np.stack([_energy(crossed), along, _energy(fine)]).astype(np.float32)


def _energy(planes: Any) -> Floats:
    """Mean square around each place of a window, but for its margin; (n,)."""
    import cv2

    blurred = cv2.GaussianBlur(np.square(planes).mean(axis=2), (0, 0), _PLACE_SIGMA_PX)
    inner = blurred[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
    return np.asarray(inner.ravel(), np.float32)


def _windows(height: int, width: int) -> list[Area]:
    """In the middles of the quarters; of a small picture once."""
    rows, columns = _spans(height), _spans(width)
    return [(r, c) for r in rows for c in columns]


def _spans(length: int) -> list[slice]:
    side = min(WINDOW_PX, length)
    starts = {min(max(0, length * part // 4 - side // 2), length - side) for part in (1, 3)}
    return [slice(start, start + side) for start in sorted(starts)]
