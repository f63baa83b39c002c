"""The last step: a restored picture is held against its input, in colour and in detail.

A restored picture may drift, since the model is free to. Both corrections live on the input's own
grid: with U enlarging from it and D reducing to it (both bicubic), the result is

    gain · restored + U(q),    q of the input's size,

so a picture of any size needs one look at the restored one (D of it), small work on the input's
grid, and one pass that applies it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Area, Canvas, bands, blocks
from tudsr.images.picture import Windows
from tudsr.images.resize import bicubic_resize, bicubic_rows
from tudsr.upscale.round_trip import REACH_PX, AxisPart, RoundTrip, there_and_back
from tudsr.upscale.side_by_side import in_order
from tudsr.upscale.trust import Trust

Colour = Literal["wavelet", "adain", "none"]
Floats = NDArray[np.float32]

# Five levels of the dilated kernel (1 2 1)/4, which peers call the wavelet fix, have a variance of
# (1 + 4 + 16 + 64 + 256)/2 px², a standard deviation of 13 px; at x4 these are 3.3 input pixels.
# Counted in input pixels, the cut stays where the input is to be believed, whatever the ratio.
LOW_PASS_SIGMA_PX = 3.3
_LOW_PASS_REACH_PX = 13  # OpenCV's kernel for it
# Share of back-projection in the wavelet correction, at fidelity 1 and of a clean input: the
# reduced result is then off the input by 0.6 grey levels in the mean, without it by 2
# (docs/upscaling.md).
LEAST_BACK_PROJECTION = 0.7
# Share of the restored picture at fidelity 0; the rest is plain enlarging (docs/upscaling.md).
LEAST_SHARE = 0.5
_BACK_PROJECTIONS = 8
_Q_REACH_PX = _LOW_PASS_REACH_PX + (1 + _BACK_PROJECTIONS) * REACH_PX

Block = tuple[Area, Area, Area]
Axes = tuple[AxisPart, AxisPart]


class Finish:
    """Corrects a restored picture against its input.

    First ``look`` at every band, then ``settle``, then ``apply``.

    ``colour``: ``wavelet`` replaces the low frequencies by those of the enlarged input, and adds
    `LEAST_BACK_PROJECTION` of back-projection (Irani and Peleg, 1991): of what the reduced result
    still differs from the input by, enlarged; less of it if the input looks damaged (`Trust`).
    ``adain`` moves each channel's mean and standard deviation to the enlarged input's (Huang and
    Belongie, 2017, eq. 8); ``none`` changes nothing.

    ``fidelity`` below 1 draws the result towards what the input says, in two ways that both grow
    linearly: down to `LEAST_SHARE` of the restored picture beside plain enlarging, and up to the
    whole of back-projection. At 0, reducing the result gives the input again.

    Args:
        lr: (h, w, 3) in [0, 1], the input.
        size: height and width of the restored picture.
        colour: correction of colours.
        fidelity: 0, most faithful, to 1, most generated.
        folder: for temporary files; see `Canvas`.
        at_once: blocks worked on side by side, in ``settle``.
    """

    def __init__(
        self,
        lr: Windows,
        size: tuple[int, int],
        colour: Colour,
        fidelity: float = 1.0,
        folder: Path | None = None,
        at_once: int = 1,
    ) -> None:
        self.lr, self.size, self.colour = lr, size, colour
        self._folder, self._at_once = folder, at_once
        height, width = lr.shape[0], lr.shape[1]
        self._share = LEAST_SHARE + (1 - LEAST_SHARE) * fidelity
        self._fidelity, self._projected = fidelity, 0.0
        self._reduces = colour == "wavelet" or fidelity < 1
        self._narrow = Canvas(size[0], width, folder) if self._reduces else None
        self._q = Canvas(height, width, folder) if self._reduces else None
        self._moments = np.zeros((2, 2, 3))  # of result and enlarged input; sums and squares
        self._gain, self._shift = np.ones(3, np.float32), np.zeros(3, np.float32)

    @property
    def is_needed(self) -> bool:
        """Whether anything is corrected at all."""
        return self._reduces or self.colour == "adain"

    def look(self, rows: slice, band: Floats) -> None:
        """Take in rows of the restored picture, (k, W, 3); each row once."""
        if self._narrow is not None:
            self._narrow[rows] = bicubic_resize(band, band.shape[0], self.lr.shape[1])
        if self.colour == "adain":
            enlarged = bicubic_rows(self.lr, *self.size, rows)
            for sums, part in zip(self._moments, (band, enlarged), strict=True):
                sums += [
                    part.sum((0, 1), np.float64),
                    np.square(part, dtype=np.float64).sum((0, 1)),
                ]

    def apply(self, rows: slice, band: Floats) -> Floats:
        """The corrected rows, (k, W, 3), not clipped; once settled. Any thread may ask."""
        if self._q is None:
            return band * self._gain + self._shift
        fixed = band * self._gain
        fixed *= self._share
        fixed += bicubic_rows(self._q, *self.size, rows)
        return fixed

    def close(self) -> None:
        """Give back memory and disk."""
        for canvas in (self._narrow, self._q):
            if canvas is not None:
                canvas.close()

    def settle(self, check: Callable[[], None] = lambda: None) -> None:
        """Work out gain, shift and q, once all rows have been looked at.

        Args:
            check: called now and then; what it raises ends the work.
        """
        if self.colour == "adain":
            self._gain, self._shift = _match(self._moments / (self.size[0] * self.size[1]))
        if self._q is None or self._narrow is None:
            return
        height, width = self.lr.shape[:2]
        axes = RoundTrip(height, self.size[0]), RoundTrip(width, self.size[1])
        with closing(_reduced_rows(self._narrow, height, self._folder)) as reduced:
            self._projected = self._projection(reduced, check)

            def corrected(block: Block) -> tuple[Area, Floats]:
                where, around, inner = block
                near = axes[0].part(around[0]), axes[1].part(around[1])
                return where, self._correction(reduced, around, near)[inner]

            made = in_order(corrected, blocks(height, width, _Q_REACH_PX), self._at_once)
            with closing(made):
                for where, q in made:
                    check()
                    self._q[where] = q
        self._narrow.close()

    def _projection(self, reduced: Canvas, check: Callable[[], None]) -> float:
        """Share of back-projection: a damaged input's noise is not to come back by it."""
        if not (self.colour == "wavelet" and self._fidelity):
            return 1 - self._fidelity
        trust, (height, width) = Trust(), self.lr.shape[:2]
        for _, around, inner in blocks(height, width, Trust.reach_px):
            check()
            trust.look(np.asarray(self.lr[around]), reduced[around], inner)
        return 1 - (1 - LEAST_BACK_PROJECTION * trust.share) * self._fidelity

    def _correction(self, reduced: Canvas, area: Area, axes: Axes) -> Floats:
        """q of a block and of what around it has a say."""
        lr, seen = np.asarray(self.lr[area]), reduced[area]
        planes = [self._plane(lr[:, :, c], seen[:, :, c], axes, c) for c in range(3)]
        return np.stack(planes, axis=2)

    def _plane(self, lr: Floats, reduced: Floats, axes: Axes, c: int) -> Floats:
        seen = there_and_back(lr, *axes)
        if self.colour == "wavelet":
            drift = _low_pass(seen - reduced)
        else:
            drift = np.full_like(lr, self._shift[c])
        share, gain = self._share, float(self._gain[c])
        q: Floats = np.asarray(share * drift + (1 - share) * lr, np.float32)
        missing = lr - (share * gain) * reduced - there_and_back(q, *axes)
        added = np.zeros_like(lr)
        for _ in range(_BACK_PROJECTIONS):
            added += missing - there_and_back(added, *axes)
        q += self._projected * added
        return q


def _reduced_rows(narrow: Canvas, height: int, folder: Path | None) -> Canvas:
    """(H, w, 3) reduced to ``height`` rows."""
    width = narrow.shape[1]
    out = Canvas(height, width, folder)
    for rows in bands(height, width * narrow.shape[0] // height):
        out[rows] = bicubic_rows(narrow, height, width, rows)
    return out


def _low_pass(plane: Floats) -> Floats:
    import cv2

    blurred = cv2.GaussianBlur(plane, (0, 0), LOW_PASS_SIGMA_PX, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _match(means: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Gain and shift that give the result the enlarged input's moments; a flat channel shifts."""
    mean, reference = means[:, 0]
    std, wanted = np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0))
    gain = np.where(std > 1e-6, wanted / np.maximum(std, 1e-6), 1.0)
    return gain.astype(np.float32), (reference - mean * gain).astype(np.float32)
