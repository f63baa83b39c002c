"""The critic: a frozen pretrained trunk, heads trained on three of its levels (paper, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tudsr.model.fused import blur
from tudsr.model.losses import StagedTrunk, staged_trunk
from tudsr.profile import CriticSettings

_WIDTHS = (64, 128, 256, 512, 512)


class Critic(nn.Module):
    """Scores images; only the heads have trainable weights."""

    def __init__(self, settings: CriticSettings, seed: int) -> None:
        super().__init__()
        self.levels = settings.levels
        self.augment = settings.diff_augment
        # Kept out of the module's children: the trunk is shared and never saved.
        self._trunk = [staged_trunk(settings.trunk, settings.trunk_path)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList(
                _head(_WIDTHS[level - 1], settings.width, settings.blocks) for level in self.levels
            )

    @property
    def trunk(self) -> StagedTrunk:
        """The frozen trunk, perhaps shared with the perceptual loss."""
        return self._trunk[0]

    def features(self, images: Tensor, rng: torch.Generator) -> list[Tensor]:
        """All five stages of (B, 3, H, W) images in [0, 1], augmented if so set."""
        return self.trunk(diff_augment(images, rng) if self.augment else images)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One (B, 1, h, w) logit map a level, from the trunk's five stages."""
        return [
            head(_unit_power(features[level - 1]))
            for head, level in zip(self.heads, self.levels, strict=True)
        ]


class BlurPool(nn.Module):
    """A 4-tap binomial blur of stride 1 (Zhang 2019), reflecting at the border."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return blur(F.pad(x, (1, 2, 1, 2), mode="reflect"), self.kernel)


def _head(channels: int, width: int, blocks: int) -> nn.Sequential:
    """n blocks of blur, 3x3 convolution and LeakyReLU, the width halved each time; then 1x1."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        out = max(8, width >> block)
        conv = spectral_norm(nn.Conv2d(channels, out, 3, padding=1))
        layers += [BlurPool(), conv, nn.LeakyReLU(0.2)]
        channels = out
    return nn.Sequential(*layers, BlurPool(), spectral_norm(nn.Conv2d(channels, 1, 1)))


def _unit_power(features: Tensor) -> Tensor:
    """Scale each sample's features to a mean square of one: trunks differ in scale by hundreds."""
    power = features.square().mean((1, 2, 3), keepdim=True)
    return features * (power + 1e-8).rsqrt()


def diff_augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Differentiable brightness, translation and cutout, one draw an image (Zhao et al. 2020)."""
    batch, _, height, width = images.shape

    def draw(low: float, high: float) -> list[float]:
        return (torch.rand(batch, generator=rng) * (high - low) + low).tolist()

    shift = torch.tensor(draw(-0.5, 0.5), device=images.device)
    images = images + shift[:, None, None, None]
    moved = [
        torch.roll(image, (int(dy * height), int(dx * width)), (1, 2))
        for image, dy, dx in zip(images, draw(-1 / 8, 1 / 8), draw(-1 / 8, 1 / 8), strict=True)
    ]
    mask = torch.ones(batch, 1, height, width, device=images.device, dtype=images.dtype)
    for index, (top, left) in enumerate(zip(draw(0, 0.75), draw(0, 0.75), strict=True)):
        y, x = int(top * height), int(left * width)
        mask[index, :, y : y + height // 4, x : x + width // 4] = 0
    return torch.stack(moved) * mask
