"""LPIPS and DISTS on a trunk of choice, named after what they really measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class _Seen:
    """A picture and what the networks made of it."""

    pixels: NDArray[np.float32]
    image: Tensor
    unit: list[Tensor]
    staged: list[Tensor]


class Perceptual:
    """Distances of pictures to a reference, whose features are kept until the next reference.

    With trunk ``vgg16`` (torchvision's ImageNet weights) they are LPIPS-VGG and DISTS; with
    ``hed_vgg16`` they rank alike but are other numbers, and are called ``lpips_hed`` and
    ``dists_hed``. DISTS, which doubles the work, is left out unless asked for.
    """

    def __init__(self, trunk: str, trunk_path: str | None = None, dists: bool = True) -> None:
        self.lpips_name = f"lpips{_SUFFIX[trunk]}"
        self.dists_name = f"dists{_SUFFIX[trunk]}"
        self._plain = load_trunk(trunk, trunk_path)
        self._staged = staged_trunk(trunk, trunk_path) if dists else None
        self._heads = [torch.from_numpy(w)[None, :, None, None] for w in lpips_heads()]
        self._dists = Dists()
        self._reference: _Seen | None = None

    @torch.inference_mode()
    def distances(
        self, reference: NDArray[np.float32], picture: NDArray[np.float32]
    ) -> dict[str, float]:
        """LPIPS and DISTS of an (H, W, 3) picture in [0, 1] to the reference."""
        if self._reference is None or not np.array_equal(self._reference.pixels, reference):
            self._reference = self._look(reference)
        truth, seen = self._reference, self._look(picture)
        measured = {self.lpips_name: float(self._lpips(truth.unit, seen.unit))}
        if self._staged is not None:
            dists = self._dists(truth.image, seen.image, truth.staged, seen.staged)
            measured[self.dists_name] = float(dists)
        return measured

    def _look(self, pixels: NDArray[np.float32]) -> _Seen:
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        staged = self._staged(image) if self._staged is not None else []
        return _Seen(pixels, image, self._unit_features(image), staged)

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
