"""Whether an input looks damaged: soft for its size, or grainy.

A photograph that was reduced as it should be has detail up to its pixel grid. What matters is the
share that the finest of it, seen by a second difference in both directions (Immerkær, 1996), has of
all fine detail: blur takes it away, and white noise is nothing else where the picture itself is
flat. Compression alone moves it little, and what is grain and what a fine pattern of the picture's
own is decided where there is least of either (docs/log.md has the figures).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Area
from tudsr.images.picture import Windows

Floats = NDArray[np.float32]

SOFT_SHARE = 0.16  # below it, an input is soft
GRAIN_SHARE = 0.7  # above it, where there is least detail, it is grainy
WINDOW_PX = 192  # side of the windows that are looked at
_LEAST_DETAIL = 2.0  # grey levels squared: below it there is rounding, and grain that nobody sees
_LEAST_PLACES = 0.02  # of all: with fewer that have any detail, nothing is said
_FLATTEST = 0.2  # share of the places with detail where grain is looked for
_FINE_SIGMA_PX, _PLACE_SIGMA_PX = 2.0, 3.0  # of detail, and of what counts as one place
_MARGIN_PX = 6  # of a window, not judged: its surroundings are missing
_SECOND_DIFFERENCES = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / np.float32(6)


class Fineness(NamedTuple):
    """Share of the finest detail in all fine detail, root mean squares; about 1 for white noise.

    Attributes:
        anywhere: geometric mean over all places with detail.
        flattest: over those that have least.
    """

    anywhere: float
    flattest: float


def looks_damaged(pixels: Windows) -> bool:
    """Whether (h, w, 3) in [0, 1] looks soft or grainy, by four small windows of it."""
    seen = fineness(pixels)
    return seen is not None and (seen.anywhere < SOFT_SHARE or seen.flattest > GRAIN_SHARE)


def fineness(pixels: Windows) -> Fineness | None:
    """How fine the detail of (h, w, 3) in [0, 1] is; None where there is too little of it."""
    finest, fine = (np.concatenate(parts) for parts in zip(*_looks(pixels), strict=True))
    detailed = fine >= _LEAST_DETAIL
    if not fine.size or detailed.mean() < _LEAST_PLACES:
        return None
    finest, fine = finest[detailed], fine[detailed]
    flattest = fine <= np.quantile(fine, _FLATTEST)
    return Fineness(_share(finest, fine), _share(finest[flattest], fine[flattest]))


def _share(finest: Floats, fine: Floats) -> float:
    return float(np.exp(np.log((finest + 0.02) / (fine + 0.02)).mean(dtype=np.float64) / 2))


def _looks(pixels: Windows) -> list[tuple[Floats, Floats]]:
    """Of each window the energies of its finest and of all its fine detail, place by place."""
    import cv2

    looks: list[tuple[Floats, Floats]] = []
    for area in _windows(*pixels.shape[:2]):
        levels = np.asarray(pixels[area]) * np.float32(255)
        finest = np.asarray(cv2.filter2D(levels, -1, _SECOND_DIFFERENCES), np.float32)
        fine = levels - np.asarray(cv2.GaussianBlur(levels, (0, 0), _FINE_SIGMA_PX), np.float32)
        looks.append((_energy(finest), _energy(fine)))
    return looks


def _energy(planes: Floats) -> Floats:
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
