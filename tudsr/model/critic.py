"""The critic: a frozen pretrained trunk, heads trained on three of its levels (paper, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tudsr.errors import ModelError
from tudsr.images.atomic import writing
from tudsr.model.diff_augment import diff_augment
from tudsr.model.dino import DinoTrunk, load_dino
from tudsr.model.fused import blur
from tudsr.model.losses import StagedTrunk, staged_trunk
from tudsr.model.precision import at_least_single
from tudsr.profile import CriticSettings

_VGG_LEVELS = (2, 3, 4)
_VIT_LEVELS = (3, 6, 9)


class Critic(nn.Module):
    """Scores images; only the heads have trainable weights.

    Attributes:
        picks: the heads' levels, as indices into the trunk's features.
        head_reach: how many places of its features a logit sees to either side.
        head_stride: places of the features to a logit.
    """

    def __init__(
        self,
        settings: CriticSettings,
        seed: int,
        device: torch.device | str = "cpu",
        half: bool = False,
    ) -> None:
        super().__init__()
        self.augment = settings.diff_augment
        self.head_reach, self.head_stride = _head_geometry(settings.blocks, settings.stride)
        # Kept out of the module's children: the trunk is shared and never saved.
        self._trunk, levels = _trunk(settings, str(device), half)
        self.picks = [self.trunk.levels.index(level) for level in levels]
        widths = [self.trunk.widths[pick] for pick in self.picks]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList(
                _head(width, settings.width or width // 2, settings.blocks, settings.stride)
                for width in widths
            )
        self.to(device)

    @property
    def trunk(self) -> StagedTrunk | DinoTrunk:
        """The frozen trunk, perhaps shared with the perceptual loss."""
        return self._trunk[0]

    def features(self, images: Tensor, rng: torch.Generator) -> list[Tensor]:
        """The trunk's features of (B, 3, H, W) images in [0, 1], augmented if so set."""
        return self.trunk(self.view(images, rng))

    def view(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """What the trunk is shown: the images, augmented if so set."""
        return diff_augment(images, rng) if self.augment else images

    def forward(
        self, features: Sequence[Tensor], powers: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """One (B, 1, h, w) logit map a level, from all of the trunk's features.

        ``powers``, (B,) a level, are those of the whole picture where the features are a part's.
        """
        picked = [features[pick] for pick in self.picks]
        powers = powers if powers is not None else [power(f) for f in picked]
        scaled = (_unit_power(f, p) for f, p in zip(picked, powers, strict=True))
        return [head(f) for head, f in zip(self.heads, scaled, strict=True)]


def _trunk(
    settings: CriticSettings, device: str, half: bool
) -> tuple[list[StagedTrunk | DinoTrunk], tuple[int, ...]]:
    """The trunk, in a list, and the levels that heads are put on.

    Raises:
        ModelError: a level that the trunk does not have.
    """
    if settings.trunk in ("dinov2", "dinov3"):
        levels = settings.levels or _VIT_LEVELS
        source = settings.trunk_path, settings.trunk_revision
        fit = settings.final_norm, settings.patch_fit
        vit = load_dino(settings.trunk, *source, levels, *fit, device, half)
        return [vit], levels
    levels = settings.levels or _VGG_LEVELS
    vgg = staged_trunk(settings.trunk, settings.trunk_path, device, half)
    if not set(levels) <= set(vgg.levels):
        raise ModelError(f"levels {levels}: trunk {settings.trunk} has stages 1 to 5")
    return [vgg], levels


def save_heads(path: Path, critic: Critic) -> None:
    """Write a critic's heads as safetensors, for a warm start of the next stage."""
    state = {k: v.detach().cpu().contiguous() for k, v in critic.heads.state_dict().items()}
    with writing(path) as temporary:
        save_file(state, temporary)


def load_heads(path: Path, critic: Critic) -> None:
    """Take over the heads that ``save_heads`` wrote.

    Raises:
        ModelError: no such file, or heads of another shape.
    """
    try:
        critic.heads.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"critic.warm_start: the heads of stage 1 at {path} cannot be taken over ({reason}): "
            "train stage 1 with the same critic settings, or turn critic.warm_start off"
        ) from None


class BlurPool(nn.Module):
    """A 4-tap binomial blur (Zhang 2019), reflecting at the border."""

    kernel: Tensor

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, or with stride 2 to half of it, rounded up."""
        return blur(F.pad(x, (1, 2, 1, 2), mode="reflect"), self.kernel, stride=self.stride)


def _head(channels: int, width: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """n blocks of blur, 3x3 convolution and LeakyReLU, the width halved each time; then 1x1."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        out = max(8, width >> block)
        conv = spectral_norm(nn.Conv2d(channels, out, 3, padding=1))
        layers += [BlurPool(stride), conv, nn.LeakyReLU(0.2)]
        channels = out
    return nn.Sequential(*layers, BlurPool(), spectral_norm(nn.Conv2d(channels, 1, 1)))


def _head_geometry(blocks: int, stride: int) -> tuple[int, int]:
    """A head's reach and stride, in places of its features."""
    reach, step = 0, 1
    for _ in range(blocks):
        reach += 2 * step  # the blur's
        step *= stride
        reach += step  # the convolution's
    return reach + 2 * step, step


def power(features: Tensor) -> Tensor:
    """(B,) mean squares of (B, C, h, w) features, at least in float32."""
    return at_least_single(features.square()).mean((1, 2, 3))


def _unit_power(features: Tensor, power: Tensor) -> Tensor:
    """Scale each sample's features to a mean square of one: trunks differ in scale by hundreds."""
    return features * (power + 1e-8).rsqrt().to(features.dtype)[:, None, None, None]
