"""Cutting N·R x N·R pictures into R x R chunks and back, the step between the stages, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tudsr.errors import SettingsError
from tudsr.model.base import Base


def enlarge(images: Tensor, n: int, method: Literal["bicubic", "bilinear"]) -> Tensor:
    """(B, 3, H, W) in [0, 1] x N, as ``tudsr.upscale.interpolate`` does when enlarging.

    That is Keys' kernel with a = -1/2, which torch has under ``antialias`` alone.
    """
    bicubic = method == "bicubic"
    made = F.interpolate(
        images, scale_factor=n, mode=method, align_corners=False, antialias=bicubic
    )
    return made.clamp(0, 1) if bicubic else made


def chunk(images: Tensor, r_px: int) -> list[Tensor]:
    """Cut (B, 3, N·R, N·R) into N² non-overlapping (B, 3, R, R), row by row (paper, Eq. 10)."""
    rows = images.split(r_px, dim=2)
    return [part for row in rows for part in row.split(r_px, dim=3)]


def unchunk(chunks: Sequence[Tensor], n: int) -> Tensor:
    """The exact inverse of ``chunk``."""
    rows = [torch.cat(list(chunks[i * n : (i + 1) * n]), dim=3) for i in range(n)]
    return torch.cat(rows, dim=2)


def side_by_side(left: Tensor, middle: Tensor, right: Tensor) -> NDArray[np.float32]:
    """Three (B, 3, H, W) in one (B·H, 3·W, 3) picture, a row a sample; ``middle`` is clipped."""
    rows = torch.cat([left, middle.clamp(0, 1), right], dim=3)
    return torch.cat(list(rows), dim=1).permute(1, 2, 0).contiguous().numpy()


def check_side(base: Base, r_px: int) -> None:
    """Refuse a training size that the base cannot take, before anything is trained.

    Raises:
        SettingsError: ``r_px`` is no multiple of the base's ``size_multiple``.
    """
    step = base.size_multiple
    if r_px % step:
        lower = r_px // step * step
        fitting = f"{lower} or {lower + step}" if lower else str(step)
        raise SettingsError(
            f"base.r_px is {r_px}, but this base takes multiples of {step}: set it to {fitting}"
        )
