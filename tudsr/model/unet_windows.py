"""What the UNet sees of a large latent: overlapping windows, whose epsilons are averaged.

A UNet is best at the size it was trained on, and its attention grows with the square of the area;
an autoencoder takes far larger pictures. So it is given a large tile, and the UNet windows of it
(MultiDiffusion, arXiv:2302.08113; Mixture of Diffusers, arXiv:2302.02412): no pixels are blended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tudsr.profile import UpscaleSettings

# Of a window's side, squared: at its border a Gaussian weighs 4e-6 of what it does in the middle.
_VARIANCE = 0.01


@dataclass(frozen=True)
class UNetWindows:
    """Square windows of ``side`` latents that overlap by at least ``overlap``."""

    side: int
    overlap: int

    @staticmethod
    def of(settings: UpscaleSettings, factor: int) -> UNetWindows | None:
        """Those of the settings, for a codec that reduces by ``factor``; None: no windows."""
        if settings.window_px == 0:
            return None
        return UNetWindows(settings.window_px // factor, settings.window_overlap_px // factor)

    def average(self, predict: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
        """``predict`` of (B, C, h, w) window by window, averaged under Gaussians.

        Latents that fit in a window are predicted whole. Along a side that is not longer than a
        window there is one, of that side.
        """
        if max(latents.shape[2:]) <= self.side:
            return predict(latents)
        rows, columns = (_along(length, self.side, self.overlap) for length in latents.shape[2:])
        mean = torch.zeros_like(latents)
        for down, height in rows:
            for right, width in columns:
                weights = height[:, None] * width
                predicted = predict(latents[:, :, down, right])
                mean[:, :, down, right] += predicted * weights.to(predicted)
        return mean


def _along(length: int, side: int, overlap: int) -> list[tuple[slice, Tensor]]:
    """Windows along one axis, spread evenly, and their weights, which sum to 1 at every place."""
    side = min(side, length)
    count = -(-(length - overlap) // (side - overlap)) if length > side else 1
    starts = [i * (length - side) // max(1, count - 1) for i in range(count)]
    # float64, and an axis at a time: a corner's weight is the product of two small ones.
    places = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / side
    bell = torch.exp(-places.square() / (2 * _VARIANCE))
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += bell
    found = [slice(start, start + side) for start in starts]
    return [(place, (bell / total[place]).float()) for place in found]
