"""Giving a result the colours of its input: one correction at the very end.

A restored picture may drift in colour, since the model is free to. The input is blurred but its
colours are true, so low frequencies are taken from it and detail from the result.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tudsr.images.resize import bicubic_resize

# Five levels of the dilated kernel (1 2 1)/4, which peers call the wavelet fix, have a variance of
# (1 + 4 + 16 + 64 + 256)/2 px², a standard deviation of 13 px; at x4 these are 3.3 input pixels.
# Counted in input pixels, the cut stays where the input is to be believed, whatever the ratio.
LOW_PASS_SIGMA_PX = 3.3


def colour_fix(
    result: NDArray[np.float32],
    reference_lr: NDArray[np.float32],
    method: Literal["wavelet", "adain", "none"],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Correct the colours of ``result`` against the input it was made from.

    ``wavelet`` replaces the low frequencies by those of the enlarged input; ``adain`` moves each
    channel's mean and standard deviation to the enlarged input's (Huang and Belongie, 2017, eq. 8);
    ``none`` changes nothing. One channel is held at a time beside the two pictures.

    Args:
        result: (H, W, 3), the enlarged and restored picture.
        reference_lr: (h, w, 3), the input, h <= H and w <= W.
        method: how.
        out: where to put it, which may be ``result``; None means a new array.

    Returns:
        (H, W, 3) float32, not clipped. With method ``none``, ``result`` itself.
    """
    if method == "none":
        return result
    fix = _low_pass_fix if method == "wavelet" else _match_moments
    out = np.empty_like(result) if out is None else out
    for c in range(result.shape[2]):
        plane = np.ascontiguousarray(reference_lr[:, :, c])
        reference = bicubic_resize(plane, *result.shape[:2])
        out[:, :, c] = fix(result[:, :, c], reference, reference_lr.shape[:2])
    return out


def _low_pass_fix(
    result: NDArray[np.float32], reference: NDArray[np.float32], lr_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Result + low(reference - result): low is linear, so one pass does for both pictures.

    What is left after the low pass fits on the input's own grid, where blurring is scale² cheaper.
    """
    import cv2

    height, width = lr_size
    drift: Any = cv2.resize(reference - result, (width, height), interpolation=cv2.INTER_AREA)
    drift = cv2.GaussianBlur(drift, (0, 0), LOW_PASS_SIGMA_PX, borderType=cv2.BORDER_REFLECT)
    return result + bicubic_resize(drift, *result.shape)


def _match_moments(
    result: NDArray[np.float32], reference: NDArray[np.float32], lr_size: tuple[int, int]
) -> NDArray[np.float32]:
    del lr_size  # the moments are those of the enlarged input, so that equal pictures stay equal
    mean, std = result.mean(dtype=np.float64), result.std(dtype=np.float64)
    ratio = reference.std(dtype=np.float64) / std if std > 1e-6 else 1.0
    shift = reference.mean(dtype=np.float64) - mean * ratio
    return result * np.float32(ratio) + np.float32(shift)
