"""The learned half of the small base's codec: convolutions on latents before they are decoded.

What restores detail is mostly depth at the latents' own resolution, without normalisation (Lim et
al. 2017, "Enhanced Deep Residual Networks"): in the same training time it gains a third more than a
UNet (docs/log.md). Both stages share it; a stage's adapter is in the UNet before it. Ours.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# How much of what is added is there at the start: sums of many blocks stay small.
_START = 0.1


class ResidualDecoder(nn.Module):
    """What is added to latents before the inverse transform.

    Args:
        latents: channels of a latent.
        channels: of the features.
        blocks: residual blocks of two 3x3 convolutions.

    Attributes:
        size: (channels, blocks).
    """

    def __init__(self, latents: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.size = channels, blocks
        self.enter = _convolution(latents, channels)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(blocks))
        self.leave = _convolution(channels, latents)
        self.leave.weight.data.mul_(_START)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        entered = features = self.enter(latents)
        for block in self.blocks:
            features = block(features)
        return self.leave(entered + features)

    def start_from_nothing(self) -> None:
        """Add nothing until it has learned to."""
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (_convolution(channels, channels) for _ in range(2))
        self.second.weight.data.mul_(_START)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(F.relu(self.first(features)))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
