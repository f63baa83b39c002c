"""Random crops of pictures for training, each a pure function of its draws."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tudsr.profile import CropSettings

_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)


def draw_crop(
    photo: Image.Image, crop_px: int, rng: np.random.Generator, settings: CropSettings
) -> NDArray[np.float32]:
    """One augmented crop, (crop_px, crop_px, 3) in [0, 1], of an RGB picture that is no smaller.

    What ``settings`` leave out draws nothing from ``rng``.
    """
    crop = np.asarray(_reduced_window(photo, crop_px, rng, settings.reductions))
    if settings.flip and rng.random() < 0.5:
        crop = crop[:, ::-1]
    if settings.turn:
        crop = np.rot90(crop, k=int(rng.integers(4)))
    return _recoloured(crop, rng, settings.recolour)


def reduced_to(picture: Image.Image, side_px: int) -> Image.Image:
    """The picture with its shorter side reduced to ``side_px`` (Lanczos); none is enlarged."""
    if min(picture.size) <= side_px:
        return picture
    ratio = side_px / min(picture.size)
    width, height = (max(side_px, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _reduced_window(
    photo: Image.Image, crop_px: int, rng: np.random.Generator, reductions: Sequence[float]
) -> Image.Image:
    fits = min(photo.size) / crop_px
    reduction = min(float(rng.choice(reductions)), fits)
    window = int(crop_px * reduction)
    left = int(rng.integers(photo.width - window + 1))
    top = int(rng.integers(photo.height - window + 1))
    piece = photo.crop((left, top, left + window, top + window))
    return piece.resize((crop_px, crop_px), Image.Resampling.BICUBIC)


def _recoloured(
    crop: NDArray[np.uint8], rng: np.random.Generator, share: float
) -> NDArray[np.float32]:
    """Swap channels and bend the tone curve in a share of the crops: colours, not structure.

    A crop has 256 levels: the curve is evaluated for those alone.
    """
    table = _UNIT
    if share and rng.random() < share:
        table = np.power(table, float(rng.uniform(0.75, 1.33)), dtype=np.float32)
        crop = crop[:, :, rng.permutation(3)]
    return np.asarray(cv2.LUT(np.ascontiguousarray(crop), table), np.float32)
