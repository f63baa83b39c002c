"""Pictures drawn from a seed, for benchmarks that must run where no photographs are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tudsr.images.resize import bicubic_resize


def drawn_picture(side_px: int, seed: int) -> NDArray[np.uint8]:
    """(S, S, 3) with structure at three scales, down to the pixel."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((side_px, side_px, 3))
    for cells in (4, 16, side_px):
        coarse = rng.random((cells, cells, 3)) / np.sqrt(cells)
        repeat = side_px // cells
        picture += coarse.repeat(repeat, 0).repeat(repeat, 1)
    return (picture / picture.max() * 255).astype(np.uint8)


def drawn_pair(lr_px: int, hr_px: int, seed: int) -> dict[str, torch.Tensor]:
    """A drawn picture, and its reduction to a quarter brought to ``lr_px``; (3, S, S) each."""
    hr = drawn_picture(hr_px, seed).astype(np.float32) / np.float32(255)
    small = bicubic_resize(hr, hr_px // 4, hr_px // 4)
    lr = bicubic_resize(small, lr_px, lr_px).clip(0, 1)
    images = {"lr": lr, "hr": hr}
    return {k: torch.from_numpy(v.transpose(2, 0, 1).copy()) for k, v in images.items()}
