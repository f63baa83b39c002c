"""LPIPS and DISTS on a trunk of choice, named after what they really measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tudsr.model.losses import Dists, staged_trunk
from tudsr.model.published import lpips_heads
from tudsr.model.trunks import load_trunk, normalise

_SUFFIX = {"vgg16": "", "hed_vgg16": "_hed", "random": "_random"}
# relu1_2, 2_2, 3_3, 4_3, 5_3: the layers that LPIPS' published heads belong to.
_LPIPS_LAYERS = (3, 8, 15, 22, 29)


class Perceptual:
    """Distances of pictures to one reference, whose features are computed once.

    With trunk ``vgg16`` (torchvision's ImageNet weights) they are LPIPS-VGG and DISTS; with
    ``hed_vgg16`` they rank alike but are other numbers, and are called ``lpips_hed`` and
    ``dists_hed``.
    """

    def __init__(self, trunk: str, trunk_path: str | None = None) -> None:
        self.lpips_name = f"lpips{_SUFFIX[trunk]}"
        self.dists_name = f"dists{_SUFFIX[trunk]}"
        self._plain = load_trunk(trunk, trunk_path)
        self._staged = staged_trunk(trunk, trunk_path)
        self._heads = [torch.from_numpy(w)[None, :, None, None] for w in lpips_heads()]
        self._dists = Dists()

    @torch.inference_mode()
    def distances(
        self, reference: NDArray[np.float32], others: Sequence[NDArray[np.float32]]
    ) -> list[dict[str, float]]:
        """LPIPS and DISTS of each (H, W, 3) picture in [0, 1] to the reference."""
        truth = _tensor(reference)
        unit, staged = self._unit_features(truth), self._staged(truth)
        measured: list[dict[str, float]] = []
        for other in others:
            image = _tensor(other)
            lpips = self._lpips(unit, self._unit_features(image))
            dists = self._dists(truth, image, staged, self._staged(image))
            measured.append({self.lpips_name: float(lpips), self.dists_name: float(dists)})
        return measured

    def _unit_features(self, image: Tensor) -> list[Tensor]:
        """Features of unit length in each place (Zhang et al. 2018, Eq. 1)."""
        x, features = normalise(image).contiguous(memory_format=torch.channels_last), list[Tensor]()
        for index, layer in enumerate(self._plain):
            if index > _LPIPS_LAYERS[-1]:
                break
            x = layer(x)
            if index in _LPIPS_LAYERS:
                norm = x.square().sum(1, keepdim=True).sqrt()
                features.append(x / (norm + 1e-10))
        return features

    def _lpips(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        parts = [
            nn.functional.conv2d((x - y).square(), head.reshape(1, -1, 1, 1)).mean()
            for x, y, head in zip(a, b, self._heads, strict=True)
        ]
        return torch.stack(parts).sum()


def _tensor(pixels: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
