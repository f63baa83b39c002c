"""The generator's losses: edge-aware DISTS, adversarial BCE and L1 (paper, Eq. 5-9)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tudsr.model.fused import blur, paired_moments
from tudsr.model.precision import at_least_single, freeze_in_half
from tudsr.model.published import dists_alpha_beta
from tudsr.model.trunks import VGG_WIDTHS, load_trunk, normalise

# DISTS' stabilising constants (Ding et al. 2020, Eq. 3 and 4).
_C1 = _C2 = 1e-6


class StagedTrunk(nn.Module):
    """VGG16 with DISTS' L2 pooling: images (B, 3, H, W) in [0, 1] to its five stages' features.

    Attributes:
        levels: the stages, 1-based.
        widths: channels of each.
        strides_px: pixels from one place of a stage's map to the next.
        reaches_px: how far around its own pixel a place sees.
    """

    blur: Tensor
    levels = (1, 2, 3, 4, 5)
    widths: tuple[int, ...]
    strides_px = (1, 2, 4, 8, 16)
    reaches_px = (2, 7, 21, 49, 105)

    def __init__(self, trunk: nn.Sequential) -> None:
        super().__init__()
        stages = _split_at_pools(trunk)
        self.stages = nn.ModuleList(stages)
        self.widths = tuple(_last_width(stage) for stage in stages)
        hanning = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("blur", torch.outer(hanning, hanning))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features after relu1_2, 2_2, 3_3, 4_3 and 5_3."""
        x = normalise(images).contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(self._l2_pool(x) if index else x)
            features.append(x)
        return features

    def _l2_pool(self, x: Tensor) -> Tensor:
        """Blurred, halved root mean square (Henaff & Simoncelli 2016), as DISTS uses it."""
        return (blur(x * x, self.blur, stride=2, padding=1) + 1e-12).sqrt()


def staged_trunk(
    name: str,
    path: str | None = None,
    device: torch.device | str = "cpu",
    half: bool = False,
) -> StagedTrunk:
    """One frozen trunk a name and device, so that losses and critic can share its features.

    It belongs to everyone on ``device``: never move it. One in ``half`` is for autocast alone.
    """
    return _shared_trunk(name, path, str(device), half)


@lru_cache(maxsize=4)
def _shared_trunk(name: str, path: str | None, device: str, half: bool) -> StagedTrunk:
    # ``to`` moves a module in place, and load_trunk's own, which the metrics use, stays where it is
    layers = copy.deepcopy(load_trunk(name, path))
    trunk = StagedTrunk(layers).to(device).eval().requires_grad_(False)
    if half:
        freeze_in_half(trunk)
    return trunk


class Dists(nn.Module):
    """DISTS (Ding et al. 2020) with its published weights on a trunk's features.

    Args:
        widths: channels of the trunk's stages. A trunk of fewer than VGG16's, which is for tests,
            takes the weights of each stage's first ones.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, widths: Sequence[int] = VGG_WIDTHS) -> None:
        super().__init__()
        kept = _first_of_each(widths)
        alpha, beta = (torch.from_numpy(w).float().flatten()[kept] for w in dists_alpha_beta())
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)

    def forward(
        self, x: Tensor, y: Tensor, x_features: Sequence[Tensor], y_features: Sequence[Tensor]
    ) -> Tensor:
        """(B,) distances of images ``x`` and ``y`` (B, 3, H, W), given their trunk features."""
        return self.of_moments(dists_moments([x, *x_features], [y, *y_features]))

    def of_moments(self, moments: Tensor) -> Tensor:
        """(B,) distances from what ``dists_moments`` gives of images and features."""
        mean_x, mean_y, var_x, var_y, cov = moments
        texture = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
        structure = (2 * cov + _C2) / (var_x + var_y + _C2)
        return 1 - (self.alpha * texture + self.beta * structure).sum(1)


def dists_moments(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """All that DISTS knows of two images: ``paired_moments`` of their maps, (5, B, channels)."""
    pairs = zip(xs, ys, strict=True)
    return torch.cat([torch.stack(paired_moments(x, y)) for x, y in pairs], dim=2)


def sobel(images: Tensor) -> Tensor:
    """S(x): the edge magnitude of the channel mean, (B, 3, H, W) to three equal channels."""
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor(
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
        device=images.device,
        dtype=images.dtype,
    )
    gradients = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])
    magnitude = (gradients.square().sum(1, keepdim=True) + 1e-6).sqrt()
    return magnitude.expand(-1, 3, -1, -1)


def feature_distance(x_features: Sequence[Tensor], y_features: Sequence[Tensor]) -> Tensor:
    """Squared distance of unit feature vectors, summed over stages (LPIPS, Zhang et al. 2018,
    Eq. 1, without learned weights); a scalar, the mean over pictures and positions."""
    pairs = zip(x_features, y_features, strict=True)
    distances = [(_unit(x) - _unit(y)).square().sum(1).mean() for x, y in pairs]
    return torch.stack(distances).sum()


def lattice_error(images: Tensor, references: Tensor, period_px: int) -> Tensor:
    """How much of the error repeats with a codec's period: a visible grid or mesh; a scalar >= 0.

    The error is averaged by its position modulo ``period_px`` within windows of eight periods;
    what is left, its mean taken off, is a pattern that repeats. Detail that is merely wrong
    averages out. Images (B, 3, H, W) of one range; what is beyond whole windows is left out. Ours.
    """
    error, period = at_least_single(images - references), period_px
    count = min(8, *(size // period for size in error.shape[2:]))
    height, width = (size // (count * period) * count * period for size in error.shape[2:])
    window = (-1, count, period)
    blocks = error[..., :height, :width].unflatten(3, window).unflatten(2, window)
    pattern = blocks.mean(dim=(3, 6))  # B, 3, windows down, phase, windows across, phase
    return (pattern - pattern.mean(dim=(3, 5), keepdim=True)).abs().mean()


def bce(logit_maps: Sequence[Tensor], target: float) -> Tensor:
    """Mean over levels of binary cross-entropy against a soft label (paper, Eq. 6-8).

    Sigmoid and BCE of the paper's heads are taken together, on logits.
    """
    losses = [
        F.binary_cross_entropy_with_logits(m, torch.full_like(m, target))
        for m in map(at_least_single, logit_maps)
    ]
    return torch.stack(losses).mean()


def _unit(features: Tensor) -> Tensor:
    features = at_least_single(features)
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()


def _last_width(stage: nn.Sequential) -> int:
    return [layer for layer in stage if isinstance(layer, nn.Conv2d)][-1].out_channels


def _first_of_each(widths: Sequence[int]) -> list[int]:
    """Places of a thinner trunk's channels among those of the picture and VGG16's five stages."""
    starts = [0, 3]
    for width in VGG_WIDTHS[:-1]:
        starts.append(starts[-1] + width)
    return [s + i for s, width in zip(starts, (3, *widths), strict=True) for i in range(width)]


def _split_at_pools(trunk: nn.Sequential) -> list[nn.Sequential]:
    stages: list[list[nn.Module]] = [[]]
    for layer in trunk:
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
        else:
            stages[-1].append(layer)
    return [nn.Sequential(*layers) for layers in stages if layers]
