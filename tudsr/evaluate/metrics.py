"""Full-reference fidelity: PSNR and SSIM on luma, and the CIEDE2000 colour difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab, rgb2ycbcr
from skimage.metrics import structural_similarity

Pixels = NDArray[np.float32]


def luma(image: Pixels) -> NDArray[np.float64]:
    """BT.601 luma of (H, W, 3) RGB in [0, 1], in grey levels 16 to 235, as the field uses it."""
    return rgb2ycbcr(image.astype(np.float64))[..., 0]


def psnr_y(a: Pixels, b: Pixels, border_px: int = 4) -> float:
    """PSNR of luma in dB, peak 255, without a border of ``border_px``; infinite where equal."""
    difference = _inner(luma(a) - luma(b), border_px)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim_y(a: Pixels, b: Pixels, border_px: int = 4) -> float:
    """SSIM of luma (Wang et al. 2004: Gaussian window of 11, sigma 1.5), without a border."""
    value: Any = structural_similarity(
        _inner(luma(a), border_px),
        _inner(luma(b), border_px),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def delta_e(a: Pixels, b: Pixels) -> float:
    """Mean CIEDE2000 colour difference of two sRGB images; 1 is just noticeable."""
    return float(np.mean(deltaE_ciede2000(rgb2lab(a), rgb2lab(b))))


def _inner(plane: NDArray[np.float64], border_px: int) -> NDArray[np.float64]:
    return plane[border_px:-border_px, border_px:-border_px] if border_px else plane
