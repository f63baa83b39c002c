"""Ranges of the degradation chain, by name.

`standard` has the ranges that Real-ESRGAN's followers OSEDiff, HYPIR and InvSR train with, `mild`
the gentler ones of SeeSR and PiSA-SR. What a range does not say (shapes of kernels, shares of
grey noise, of up, down and keep) is Real-ESRGAN's (arXiv:2107.10833) in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from tudsr.errors import DataError

Range = tuple[float, float]


@dataclass(frozen=True)
class Pass:
    """One of the chain's two rounds of blur, resize, noise and JPEG."""

    blur_prob: float
    sigma: Range  # of the blur, pixels
    resize: Range  # factor; below 1 reduces
    resize_probs: tuple[float, float, float]  # up, down, keep
    noise: Range  # standard deviation of Gaussian noise, grey levels of 255
    poisson: Range  # strength of Poisson noise; 1 is one photon a grey level
    jpeg: Range  # quality
    gaussian_prob: float = 0.5
    grey_prob: float = 0.4


@dataclass(frozen=True)
class Preset:
    """Both rounds and the share of samples that end with a sinc filter."""

    first: Pass
    second: Pass
    final_sinc_prob: float = 0.8


_UP_DOWN_KEEP_1 = (0.2, 0.7, 0.1)
_UP_DOWN_KEEP_2 = (0.3, 0.4, 0.3)
_SIGMA_1 = (0.2, 3.0)
_SIGMA_2 = (0.2, 1.5)

CLEAN = "clean"
PRESETS: dict[str, Preset | None] = {
    CLEAN: None,
    "mild": Preset(
        Pass(1.0, _SIGMA_1, (0.3, 1.5), _UP_DOWN_KEEP_1, (1, 15), (0.05, 2.0), (60, 95)),
        Pass(0.5, _SIGMA_2, (0.6, 1.2), _UP_DOWN_KEEP_2, (1, 12), (0.05, 1.0), (60, 100)),
    ),
    "standard": Preset(
        Pass(1.0, _SIGMA_1, (0.15, 1.5), _UP_DOWN_KEEP_1, (1, 30), (0.05, 3.0), (30, 95)),
        Pass(0.8, _SIGMA_2, (0.3, 1.2), _UP_DOWN_KEEP_2, (1, 25), (0.05, 2.5), (30, 95)),
    ),
}


def find_preset(name: str) -> Preset | None:
    """The preset's ranges; None for `clean`, which degrades by reduction alone."""
    if name not in PRESETS:
        raise DataError(f"no degradation preset {name!r}: give one of {', '.join(PRESETS)}")
    return PRESETS[name]
