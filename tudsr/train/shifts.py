"""One picture twice, its codec lattices apart, so that what the lattice makes can be told."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw_offset(factor: int, rng: np.random.Generator) -> tuple[int, int]:
    """A shift (down, right) off the codec's lattice along at least one axis, pixels."""
    down, right = divmod(int(rng.integers(1, factor**2)), factor)
    return down, right


def half_shifted(images: Tensor, offset: tuple[int, int]) -> Tensor:
    """The first half of a batch (B, 3, H, W), B even, and that half rolled by ``offset``."""
    half = images[: len(images) // 2]
    both = torch.cat([half, torch.roll(half, offset, dims=(2, 3))])
    return both.contiguous(memory_format=torch.channels_last)
