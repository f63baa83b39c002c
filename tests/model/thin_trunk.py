"""VGG16's layers at an eighth of their channels: its reach at a sixtieth of its work."""

import torch
from torch import nn

from tudsr.model.losses import Dists, StagedTrunk

WIDTHS = (8, 16, 32, 64, 64)
DEPTHS = (2, 2, 3, 3, 3)


def thin_trunk() -> StagedTrunk:
    """Frozen, of random weights, always the same."""
    layers, channels = [], 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            for _ in range(depth):
                conv = nn.Conv2d(channels, width, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight)
                layers += [conv, nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
    trunk = StagedTrunk(nn.Sequential(*layers))
    trunk.widths = WIDTHS
    return trunk.eval().requires_grad_(False)


def thin_dists(_: object = None) -> Dists:
    """DISTS with weights for as many channels as there are."""
    dists, channels = Dists(), 3 + sum(WIDTHS)
    dists.alpha, dists.beta = dists.alpha[:channels], dists.beta[:channels]
    return dists
