"""Published constants of LPIPS and DISTS, read from their packages without unpickling.

The packages ship torch pickles. Only the raw float32 blocks inside are read, at the places where
they stand in the one known version of each file; a file of another SHA-256 is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import ModelError


@dataclass(frozen=True)
class _Source:
    """A package's weights file and where its blocks stand: (byte offset, number of values)."""

    package: str
    file: str
    sha256: str
    blocks: tuple[tuple[int, int], ...]


# LPIPS 0.1 (Zhang et al. 2018, BSD-2-Clause), linear heads on VGG16's five stages.
_LPIPS = _Source(
    "lpips",
    "weights/v0.1/vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ((6001, 64), (5481, 128), (6265, 256), (3425, 512), (1369, 512)),
)
# DISTS (Ding et al. 2020, MIT): alpha and beta for 3 + 64 + 128 + 256 + 512 + 512 channels.
_DISTS = _Source(
    "DISTS_pytorch",
    "weights.pt",
    "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
    ((480, 1475), (6388, 1475)),
)


@lru_cache(maxsize=1)
def lpips_heads() -> list[NDArray[np.float32]]:
    """LPIPS' non-negative weights for VGG16's stages: (64,), (128,), (256,), (512,), (512,)."""
    return _read(_LPIPS)


@lru_cache(maxsize=1)
def dists_alpha_beta() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """DISTS' texture and structure weights, (1475,) each, as published (not normalised)."""
    alpha, beta = _read(_DISTS)
    return alpha, beta


def _read(source: _Source) -> list[NDArray[np.float32]]:
    spec = find_spec(source.package)
    if spec is None or spec.origin is None:
        raise ModelError(f"the package {source.package} is not installed: run `make setup`")
    content = (Path(spec.origin).parent / source.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ModelError(
            f"{source.package}'s {source.file} is not the version whose layout is known here: "
            "install the version that constraints.txt names"
        )
    return [np.frombuffer(content, "<f4", count, offset).copy() for offset, count in source.blocks]
