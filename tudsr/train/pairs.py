"""Training pairs made as they are needed: a crop and its degraded self, brought back to R."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tudsr.data.crops import PhotoCrops
from tudsr.data.degrade import degrade
from tudsr.images.resize import bicubic_resize
from tudsr.profile import DegradationSettings


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Item ``i``: ``hr`` (3, hr_px, hr_px) and ``lr`` (3, r_px, r_px), float32 in [0, 1].

    The crop is reduced by one of ``scales`` through the degradation chain and brought to R by
    bicubic interpolation, as at inference (the ratio M is then scale·R / hr_px). Each item depends
    on (seed, i) alone.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        hr_px: int,
        r_px: int,
        scales: Sequence[int],
        settings: DegradationSettings,
        seed: int,
    ) -> None:
        self.crops = PhotoCrops(photos, hr_px, seed, 10**9)
        self.r_px, self.scales, self.settings, self.seed = r_px, tuple(scales), settings, seed

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        hr = self.crops.crop(rng)
        clean = rng.random() < self.settings.clean_prob
        preset = "clean" if clean else self.settings.preset
        lr = degrade(hr, int(rng.choice(self.scales)), preset, rng)
        enlarged = np.clip(bicubic_resize(lr, self.r_px, self.r_px), 0, 1)
        return {"hr": _tensor(hr), "lr": _tensor(enlarged)}


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))
