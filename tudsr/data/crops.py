"""Random crops of pictures for training, each a pure function of its draws."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Half of the crops are taken as they are; the others from the photograph reduced by up to 4,
# which makes new, sharper content out of few photographs.
_REDUCTIONS = (1.0, 1.0, 1.0, 1.0, 1.5, 2.0, 3.0, 4.0)

_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)


def draw_crop(photo: Image.Image, crop_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One augmented crop, (crop_px, crop_px, 3) in [0, 1], of an RGB picture that is no smaller."""
    crop = np.asarray(_reduced_window(photo, crop_px, rng))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    crop = np.rot90(crop, k=int(rng.integers(4)))
    return _recoloured(crop, rng)


def _reduced_window(photo: Image.Image, crop_px: int, rng: np.random.Generator) -> Image.Image:
    fits = min(photo.size) / crop_px
    reduction = min(float(rng.choice(_REDUCTIONS)), fits)
    window = int(crop_px * reduction)
    left = int(rng.integers(photo.width - window + 1))
    top = int(rng.integers(photo.height - window + 1))
    piece = photo.crop((left, top, left + window, top + window))
    return piece.resize((crop_px, crop_px), Image.Resampling.BICUBIC)


def _recoloured(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Swap channels and bend the tone curve in a third of the crops: colours, not structure.

    A crop has 256 levels: the curve is evaluated for those alone.
    """
    table = _UNIT
    if rng.random() < 1 / 3:
        table = np.power(table, float(rng.uniform(0.75, 1.33)), dtype=np.float32)
        crop = crop[:, :, rng.permutation(3)]
    return np.asarray(cv2.LUT(np.ascontiguousarray(crop), table), np.float32)
