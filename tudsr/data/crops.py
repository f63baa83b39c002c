"""Random crops of photographs for training, each a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from tudsr.data.photos import open_photo
from tudsr.errors import DataError

# Half of the crops are taken as they are; the others from the photograph reduced by up to 4,
# which makes new, sharper content out of few photographs.
_REDUCTIONS = (1.0, 1.0, 1.0, 1.0, 1.5, 2.0, 3.0, 4.0)


class PhotoCrops(Dataset[Tensor]):
    """Augmented square crops: item ``i`` depends on (seed, i) alone, whatever worker makes it.

    Items are (3, crop_px, crop_px) float32 in [0, 1]. The photographs are held in memory as bytes.
    """

    def __init__(self, paths: Sequence[Path], crop_px: int, seed: int, length: int) -> None:
        self.photos = [_load(path, crop_px) for path in paths]
        self.crop_px = crop_px
        self.seed = seed
        self.length = length
        if not self.photos:
            raise DataError("no training photographs: is data/train empty? Run `dvc pull`")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        crop = self.crop(np.random.default_rng((self.seed, index)))
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))

    def crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """One augmented crop, (crop_px, crop_px, 3) in [0, 1]."""
        photo = self.photos[rng.integers(len(self.photos))]
        crop = np.asarray(self._reduced_window(photo, rng), np.float32) / np.float32(255)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        crop = np.rot90(crop, k=int(rng.integers(4)))
        return _recoloured(crop, rng)

    def _reduced_window(self, photo: Image.Image, rng: np.random.Generator) -> Image.Image:
        fits = min(photo.size) / self.crop_px
        reduction = min(float(rng.choice(_REDUCTIONS)), fits)
        window = int(self.crop_px * reduction)
        left = int(rng.integers(photo.width - window + 1))
        top = int(rng.integers(photo.height - window + 1))
        piece = photo.crop((left, top, left + window, top + window))
        return piece.resize((self.crop_px, self.crop_px), Image.Resampling.BICUBIC)


def _load(path: Path, crop_px: int) -> Image.Image:
    photo = open_photo(path).convert("RGB")
    if min(photo.size) < crop_px:
        raise DataError(f"{path} is {photo.width} x {photo.height}: a crop needs {crop_px} pixels")
    return photo


def _recoloured(crop: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Swap channels and bend the tone curve in a third of the crops: colours, not structure."""
    if rng.random() < 1 / 3:
        gamma = float(rng.uniform(0.75, 1.33))
        crop = np.power(crop[:, :, rng.permutation(3)], gamma, dtype=np.float32)
    return np.ascontiguousarray(crop, np.float32)
