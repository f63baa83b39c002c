"""Differentiable augmentation of what the critic is shown (DiffAugment, Zhao et al. 2020).

Colour, translation and cutout in their published strengths, which are for pictures in [-1, 1]: what
is moved or cut away leaves zeros there, a middle grey. What is drawn stays in tensors, so a GPU is
never waited for; nothing of a picture's size is kept for the backward pass but the cutout's mask.
"""

from __future__ import annotations

import torch
from torch import Tensor


def diff_augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, H, W) in [0, 1] to the same, perhaps beyond that range; one draw an image."""
    return (cut_out(translated(recoloured(images * 2 - 1, rng), rng), rng) + 1) / 2


def recoloured(images: Tensor, rng: torch.Generator) -> Tensor:
    """Brightness moved by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    brightness, saturation, contrast = (
        _drawn(images, rng)[:, None, None, None] for _ in ("brightness", "saturation", "contrast")
    )
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translated(images: Tensor, rng: torch.Generator) -> Tensor:
    """Moved by whole pixels, up to an eighth of each side; zeros come in."""
    rows, columns = (_moved_places(images, side, rng) for side in images.shape[2:])
    height, width = images.shape[2:]
    moved = [
        image.index_select(1, y.clamp(0, height - 1)).index_select(2, x.clamp(0, width - 1))
        for image, y, x in zip(images, rows, columns, strict=True)
    ]
    return torch.stack(moved) * _box(_within(rows, height), _within(columns, width), images)


def cut_out(images: Tensor, rng: torch.Generator) -> Tensor:
    """Zeros in a window of half of each side; its middle is anywhere, so it may reach outside."""
    inside: list[Tensor] = []
    for side in images.shape[2:]:
        middle = (_drawn(images, rng) * (side + 1)).long()[:, None]
        places = torch.arange(side, device=images.device) - middle + side // 4
        inside.append(_within(places, side // 2))
    return images * (1 - _box(inside[0], inside[1], images))


def _moved_places(images: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """(B, side): where along an axis each place's pixel was before, perhaps outside."""
    most = int(side / 8 + 0.5)
    by = (_drawn(images, rng) * (2 * most + 1)).long() - most
    return torch.arange(side, device=images.device) - by[:, None]


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)


def _box(rows: Tensor, columns: Tensor, images: Tensor) -> Tensor:
    """(B, 1, H, W): one where both are true, else zero."""
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)


def _drawn(images: Tensor, rng: torch.Generator) -> Tensor:
    """(B,) from [0, 1), on the images' device."""
    return torch.rand(len(images), generator=rng).to(images.device, images.dtype)
