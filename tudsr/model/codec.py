"""Codecs: images in [-1, 1] to latents and back, frozen in every stage (paper, Fig. 2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class BlockDctCodec(nn.Module):
    """A lossless codec: the cosine transform of blocks of ``factor`` x ``factor`` RGB pixels.

    Each of the 3·factor² coefficients is a latent channel, scaled so that fine detail, which is
    small in pixels, stands against the diffusion's noise much as structure does: channel k is
    divided by its standard deviation in photographs to the power ``balance``. At 0.75 the paper's
    t1 = 200 is about the mid-timestep of x4 pairs: the squared difference of their latents is near
    (1 - abar) / abar. Plain pixels (a pixel-unshuffle) learned restoration far more slowly
    (docs/log.md).
    """

    transform: Tensor
    inverse: Tensor

    def __init__(self, factor: int, balance: float) -> None:
        super().__init__()
        self.factor, self.balance = factor, balance
        spread = _photograph_spread(factor).flatten() ** balance
        cosines = _cosines(factor)
        basis = np.einsum("pc,ui,vj->puvcij", _cosines(3), cosines, cosines)
        matrix = basis.reshape(len(spread), len(spread))
        self.register_buffer("transform", _pointwise(matrix / spread[:, None]), persistent=False)
        self.register_buffer("inverse", _pointwise(matrix.T * spread), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3·factor², H/factor, W/factor)."""
        return _exactly(F.pixel_unshuffle(images, self.factor), self.transform)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of ``encode``."""
        return F.pixel_shuffle(_exactly(latents, self.inverse), self.factor)

    def save(self, folder: Path) -> None:
        """Write ``config.json``; there are no weights."""
        config = {"_class_name": "BlockDctCodec", "factor": self.factor, "balance": self.balance}
        write_json(folder / "config.json", config)


def _exactly(x: Tensor, matrix: Tensor) -> Tensor:
    """The matrix on every pixel, in float32: bf16 would cost a grey level."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.float(), matrix)


def _cosines(size: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II matrix: row k is the k-th cosine."""
    k, x = np.arange(size)[:, None], np.arange(size)[None]
    rows = np.cos(np.pi * (x + 0.5) * k / size) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return rows


def _photograph_spread(factor: int) -> NDArray[np.float64]:
    """(3, factor, factor) standard deviations of the coefficients in photographs in [-1, 1].

    Fitted to the training photographs: means by colour axis, then a power law of the frequency
    u + v, steeper for the two colour differences than for the brightness.
    """
    frequency = np.add.outer(np.arange(factor), np.arange(factor)).astype(np.float64)
    first, power, mean = (0.40, 0.09, 0.06), (1.1, 1.5, 1.5), (3.5, 1.3, 0.75)
    spread = np.stack(
        [f / np.maximum(frequency, 1) ** p for f, p in zip(first, power, strict=True)]
    )
    spread[:, 0, 0] = mean
    return spread


def _pointwise(matrix: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(matrix).float()[:, :, None, None]


class KlCodec(nn.Module):
    """Stable Diffusion's autoencoder, factor 8, with the distribution's mode as the latent."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.factor = 2 ** (len(vae.config["block_out_channels"]) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 4, H/8, W/8)."""
        posterior = self.vae.encode(cast(Any, images), return_dict=False)[0]
        return posterior.mode() * self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) to (B, 3, 8h, 8w), about [-1, 1]."""
        scaled = latents / self.vae.config["scaling_factor"]
        return cast(Tensor, self.vae.decode(scaled, return_dict=False)[0])

    def save(self, folder: Path) -> None:
        """Write the autoencoder in diffusers' layout."""
        self.vae.save_pretrained(folder, safe_serialization=True)


def load_codec(folder: Path) -> BlockDctCodec | KlCodec:
    """The codec whose class ``config.json`` names.

    Raises:
        ModelError: no config, or a class that is not known.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"no codec at {folder}: {error}") from None
    kind = config.get("_class_name")
    if kind == "BlockDctCodec":
        return BlockDctCodec(config["factor"], config["balance"])
    if kind == "AutoencoderKL":
        from diffusers import AutoencoderKL

        return KlCodec(AutoencoderKL.from_pretrained(str(folder), use_safetensors=True).float())
    raise ModelError(f"{folder}: codec {kind!r} is not BlockDctCodec or AutoencoderKL")
