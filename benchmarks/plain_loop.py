"""The peer of benchmarks/training_step.py: stage 1's step as one writes it with public packages.

Same base, same adapter, same losses and critic, same data; DISTS as its package has it, blurs as
depthwise convolutions, features computed anew wherever they are needed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from tudsr.model.adapters import adapter_parameters
from tudsr.model.base import Base
from tudsr.model.critic import BlurPool, Critic
from tudsr.model.losses import sobel
from tudsr.model.trunks import load_trunk
from tudsr.profile import RuntimeSettings, StageSettings
from tudsr.train.device import autocast


class PlainStep:
    """``update(lr, hr)``: a generator's and a critic's step on (B, 3, R, R) images in [0, 1]."""

    def __init__(self, base: Base, adapter: str, settings: StageSettings, runtime: RuntimeSettings):
        self.base, self.settings, self.runtime = base, settings, runtime
        self.device = base.prompt.device
        self.dists = reference_dists(settings.loss.trunk).to(self.device)
        self.heads = plain_heads(Critic(settings.critic, 0)).to(self.device)
        self.parameters = adapter_parameters(base.unet, adapter)
        self.optimizer = torch.optim.AdamW(self.parameters, settings.lr)
        self.critic_optimizer = torch.optim.AdamW(self.heads.parameters(), settings.critic.lr)

    def update(self, lr: Tensor, hr: Tensor) -> None:
        """Generator first with the critic frozen, then the critic on the detached result."""
        loss, target = self.settings.loss, self.settings.loss.real_target
        with autocast(self.device, self.runtime):
            restored = self.base.restore(lr, self.settings.timestep).float()
            edges = self.dists(sobel(restored), sobel(hr), require_grad=True, batch_average=True)
            plain = self.dists(restored, hr, require_grad=True, batch_average=True)
            self.heads.requires_grad_(False)
            gan = self._bce(restored, target)
            self.heads.requires_grad_(True)
        total = loss.ea_dists * (plain + edges) + loss.gan * gan
        (total + loss.l1 * F.l1_loss(restored, hr)).backward()
        self._step(self.optimizer, self.parameters)
        with autocast(self.device, self.runtime):
            critic = (self._bce(restored.detach(), 0.0) + self._bce(hr, target)) / 2
        critic.backward()
        self._step(self.critic_optimizer, list(self.heads.parameters()))

    def _bce(self, images: Tensor, target: float) -> Tensor:
        features = self.dists.forward_once(images)[1:]
        levels = self.settings.critic.levels
        assert levels is not None, "a VGG critic has levels"
        maps = [
            head(_unit_power(features[level - 1]))
            for head, level in zip(self.heads, levels, strict=True)
        ]
        losses = [
            F.binary_cross_entropy_with_logits(m.float(), torch.full_like(m, target).float())
            for m in maps
        ]
        return torch.stack(losses).mean()

    def _step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()


def reference_dists(trunk: str) -> Any:
    """DISTS of the DISTS-pytorch package, frozen, on a trunk of ours."""
    import DISTS_pytorch.DISTS_pt as package

    plain = torchvision.models.vgg16
    package.models.vgg16 = lambda **_: plain(weights=None)  # it would fetch torchvision's
    try:
        reference = package.DISTS(load_weights=True)
    finally:
        package.models.vgg16 = plain
    ours = [m for m in load_trunk(trunk) if isinstance(m, nn.Conv2d)]
    stages = [getattr(reference, f"stage{i}") for i in range(1, 6)]
    theirs = [m for stage in stages for m in stage if isinstance(m, nn.Conv2d)]
    for mine, other in zip(ours, theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    return reference.eval().requires_grad_(False)


def plain_heads(critic: Critic) -> nn.ModuleList:
    """The critic's heads with every blur a depthwise convolution of autograd's own."""
    heads = copy.deepcopy(critic.heads)
    for head in heads:
        assert isinstance(head, nn.Sequential)
        for index, layer in enumerate(head):
            if isinstance(layer, BlurPool):
                head[index] = _DepthwiseBlur(layer.kernel)
    return heads


class _DepthwiseBlur(nn.Module):
    kernel: Tensor

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(F.pad(x, (1, 2, 1, 2), mode="reflect"), weight, groups=x.shape[1])


def _unit_power(features: Tensor) -> Tensor:
    return features * (features.square().mean((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
