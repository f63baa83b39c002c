"""A mesh is seen as peaks in the spectrum, at the frequencies of the codec's lattice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tudsr.errors import SettingsError
from tudsr.model.precision import at_least_single

# What is looked for repeats with so many periods of the codec: a UNet's first halving doubles its
# lattice, and what stage 1 leaves is enlarged.
MESH_PERIODS = 2
# Windows are so many periods wide, a peak is a cell of as many bins with a lattice frequency in
# its middle: the peak's nearest bins are held against those around them.
_PERIODS = 8
LEAST_PERIODS = 4
# Peaks of this many times their surroundings are in photographs too.
_NATURAL = 2.0
# Noise of half a grey level is not seen.
_UNSEEN = (0.5 / 255) ** 2


def mesh_excess(images: Tensor, references: Tensor, period_px: int) -> Tensor:
    """How far a picture's spectrum stands out where its reference's does not; a scalar >= 0.

    At each frequency whose period divides ``period_px`` (along both axes), the power there over the
    power around it, as a natural logarithm; what is beyond the reference's own and beyond 2 counts,
    on average over frequencies, channels and pictures. Noise and interpolation hardly count; a box
    filter does, whose spectrum has holes. Both (B, 3, H, W) in [0, 1]. Ours.

    Raises:
        SettingsError: pictures less than four periods wide or high.
    """
    peaks = lattice_peaks(images, period_px)
    with torch.no_grad():
        natural = lattice_peaks(references, period_px).clamp(min=torch.log(torch.tensor(_NATURAL)))
    return F.relu(peaks - natural).mean()


def lattice_peaks(images: Tensor, period_px: int) -> Tensor:
    """(B, 3, H, W) to (B, 3, period² - 1): each lattice frequency's log power over that around it.

    Raises:
        SettingsError: as ``mesh_excess``.
    """
    count = min(_PERIODS, *(side // period_px for side in images.shape[2:]))
    if count < LEAST_PERIODS:
        height, width = images.shape[2:]
        raise SettingsError(
            f"a mesh of {period_px} pixels cannot be told in pictures of {width} x {height}: they "
            f"need {LEAST_PERIODS * period_px} each way. Set the weight `mesh` to 0 or a larger "
            "base.r_px"
        )
    power = _power(at_least_single(images), count * period_px)
    cells = power.roll((count // 2, count // 2), dims=(2, 3))
    cells = cells.unflatten(3, (period_px, count)).unflatten(2, (period_px, count))
    cells = cells.transpose(3, 4).flatten(2, 3).flatten(3)[:, :, 1:]  # without the mean's own
    core, ring = _core_and_ring(count)
    # A peak is to be lowered, not what is around it raised: no gradient goes there.
    around = cells[..., ring].log().mean(3).detach()
    return cells[..., core].mean(3).log() - around


def _power(images: Tensor, window: int) -> Tensor:
    """(B, 3, window, window): the mean power of half-overlapping windows, each without its mean."""
    hann = torch.hann_window(window, device=images.device, dtype=images.dtype)
    weight = torch.outer(hann, hann)
    cut = images.unfold(2, window, window // 2).unfold(3, window, window // 2)
    cut = (cut - cut.mean((4, 5), keepdim=True)) * weight
    power = torch.fft.fft2(cut).abs().square().mean((2, 3))
    return power + _UNSEEN * weight.square().sum()


def _core_and_ring(count: int) -> tuple[list[int], list[int]]:
    """Which of a cell's bins are the peak's and which around it: at 1 and from 3 bins on, or 2."""
    away = [abs(i - count // 2) for i in range(count)]
    distance = [max(y, x) for y in away for x in away]
    core = [i for i, d in enumerate(distance) if d <= 1]
    return core, [i for i, d in enumerate(distance) if d >= min(3, count // 2)]
