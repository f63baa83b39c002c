"""Training pairs made as they are needed: a crop and its degraded self, brought back to R."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tudsr.data.crops import draw_crop
from tudsr.data.degrade import degrade
from tudsr.data.pictures import open_pictures
from tudsr.images.resize import bicubic_resize
from tudsr.profile import Profile
from tudsr.upscale.interpolate import bilinear_resize

_LENGTH = 10**9


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Item ``i``: ``hr`` (3, hr_px, hr_px) and ``lr`` (3, r_px, r_px), float32 in [0, 1].

    The crop is reduced by one of ``scales`` through the degradation chain and brought to R as at
    inference (the ratio M is then scale·R / hr_px). Of ``profile`` count ``data``, ``degradation``,
    ``upscale.interpolation`` and R. Each item depends on (seed, i) alone, so images seen are the
    position to go on from, and any ranks and workers may share them out.

    ``photos`` are a few photographs, held in memory and drawn with replacement; or the one index
    file of a big set (``tudsr.data.index``), gone through once an epoch.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        profile: Profile,
        hr_px: int,
        scales: Sequence[int],
        seed: int,
    ) -> None:
        self.pictures = open_pictures(photos, hr_px, seed, profile.data)
        self.hr_px, self.scales, self.seed, self.profile = hr_px, tuple(scales), seed, profile
        # A worker is a core; threads of its own would take the others'. It must be said before the
        # workers are forked: in them, OpenCV would wait forever for threads that no fork copies.
        cv2.setNumThreads(1)

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if get_worker_info() is not None and cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)  # a worker that was not forked but started
        rng = np.random.default_rng((self.seed, index))
        picture = self.pictures.picture(index, rng)
        hr = draw_crop(picture, self.hr_px, rng, self.profile.data.crops)
        damage = self.profile.degradation
        preset = "clean" if rng.random() < damage.clean_prob else damage.preset
        lr = degrade(hr, int(rng.choice(self.scales)), preset, rng)
        return {"hr": _tensor(hr), "lr": _tensor(self._brought_to_r(lr))}

    def _brought_to_r(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        bilinear = self.profile.upscale.interpolation.before_stage1 == "bilinear"
        resize = bilinear_resize if bilinear else bicubic_resize
        return np.clip(resize(lr, self.profile.base.r_px, self.profile.base.r_px), 0, 1)

    def figures(self) -> dict[str, float]:
        """For a big set, its size and how many pictures were skipped; else nothing."""
        return self.pictures.figures()


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))
