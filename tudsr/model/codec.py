"""Codecs: images in [-1, 1] to latents and back, frozen in every stage (paper, Fig. 2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json
from tudsr.model.decoder import ResidualDecoder
from tudsr.model.precision import at_least_single

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from tudsr.model.striped_vae import StripedVae

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Feature maps of the widest layer that live at a time, counted: of the picture, or of a stripe.
_LIVE_MAPS, _LIVE_STRIPES = 3, 8


class LappedCodec(nn.Module):
    """A lossless codec: the lapped cosine transform of ``factor`` x ``factor`` RGB blocks.

    A rotation across the borders of blocks comes before their cosine transform (Tran, Liang & Tu
    2003, the orthogonal case), so each latent stands for a smooth patch that overlaps its
    neighbours: what the UNet adds leaves no block borders. Each coefficient is a latent channel,
    scaled so that fine detail, which is small in pixels, stands against the diffusion's noise much
    as structure does: it is divided by its standard deviation in photographs to the power
    ``balance``. At 0.75 the squared difference of a x4 pair's latents comes near (1 - abar) / abar
    at the paper's t1 = 200. docs/adr/0001 has what else was tried.

    Args:
        factor: side of a block, pixels.
        balance: see above.
        learned: channels and blocks of a ``ResidualDecoder``, which then comes before the inverse
            transform: the codec restores as well and is lossless no more. None: there is none.

    Attributes:
        learned: that decoder, or None.
    """

    rotation: Tensor
    transform: Tensor
    inverse: Tensor

    def __init__(self, factor: int, balance: float, learned: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.factor, self.balance = factor, balance
        self.learned = ResidualDecoder(3 * factor**2, *learned) if learned else None
        spread = _photograph_spread(factor).flatten() ** balance
        cosines = _cosines(factor)
        basis = np.einsum("pc,ui,vj->puvcij", _cosines(3), cosines, cosines)
        matrix = basis.reshape(len(spread), len(spread))
        rotation = torch.from_numpy(_border_rotation(factor)).float()
        self.register_buffer("rotation", rotation, persistent=False)
        self.register_buffer("transform", _pointwise(matrix / spread[:, None]), persistent=False)
        self.register_buffer("inverse", _pointwise(matrix.T * spread), persistent=False)

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, 3, H, W) to (B, 3·factor², H/factor, W/factor), in float32 at any autocast.

        ``rng`` is not used: there is one latent to an image.
        """
        del rng
        # In bf16 the transform would cost a grey level.
        with torch.autocast(images.device.type, enabled=False):
            lapped = _across_borders(images.to(self.rotation.dtype), self.rotation)
            return F.conv2d(F.pixel_unshuffle(lapped, self.factor), self.transform)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of ``encode``, after what was learned to be missing."""
        if self.learned is not None:
            latents = at_least_single(latents) + self.learned(latents)
        return self.transform_back(latents)

    def transform_back(self, latents: Tensor) -> Tensor:
        """The linear part of ``decode``, in float32 at any autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            lapped = F.pixel_shuffle(
                F.conv2d(latents.to(self.rotation.dtype), self.inverse), self.factor
            )
            return _across_borders(lapped, self.rotation.T)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and, where there is a learned decoder, its weights."""
        config: dict[str, Any] = {
            "_class_name": "LappedCodec",
            "factor": self.factor,
            "balance": self.balance,
        }
        if self.learned is not None:
            save_file(
                {k: v.contiguous() for k, v in self.learned.state_dict().items()}, folder / WEIGHTS
            )
            config["learned"] = self.learned.size
        write_json(folder / "config.json", config)


def _across_borders(images: Tensor, rotation: Tensor) -> Tensor:
    """Multiply the pixels around each border of two blocks by the rotation, along both axes."""
    size = rotation.shape[0]
    half = size // 2
    for _ in range(2):
        images = images.transpose(2, 3)
        inner = images[..., half:-half].unflatten(-1, (-1, size)) @ rotation.T
        images = torch.cat([images[..., :half], inner.flatten(-2), images[..., -half:]], -1)
    return images


def _border_rotation(size: int) -> NDArray[np.float64]:
    """The orthogonal pre-filter of the lapped transform; it leaves a constant as it is."""
    half = size // 2
    flip = np.eye(half)[::-1]
    butterfly = np.block([[np.eye(half), flip], [flip, -np.eye(half)]])
    k = np.arange(half)[:, None] + 0.5
    fourth = np.cos(np.pi * k * k.T / half) * np.sqrt(2 / half)
    inner = np.eye(size)
    inner[half:, half:] = flip @ _cosines(half).T @ fourth @ flip
    return butterfly @ inner @ butterfly / 2


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
    """Stable Diffusion's autoencoder, factor 8.

    Attributes:
        memory_bytes: features that it may hold at a time; what would take more goes through in
            stripes (`tudsr.model.striped_vae`), with the same result to rounding. None: no limit.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.memory_bytes: int | None = None

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 4, H/8, W/8).

        The mode of the distribution, or with a CPU generator ``rng`` a draw from it.
        """
        posterior = self._posterior(images)
        latent = posterior.mode()
        if rng is not None:
            noise = torch.randn(latent.shape, generator=rng, dtype=torch.float32)
            latent = latent + posterior.std * noise.to(latent)
        return latent * self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) to (B, 3, 8h, 8w), about [-1, 1]."""
        scaled = latents / self.vae.config["scaling_factor"]
        height, width = (self.factor * side for side in latents.shape[2:])
        if striped := self._striped(len(latents), height, width):
            return torch.cat([striped.decode(one) for one in scaled.split(1)])
        return cast(Tensor, self.vae.decode(scaled, return_dict=False)[0])

    def _posterior(self, images: Tensor) -> Any:
        if striped := self._striped(len(images), *images.shape[2:]):
            from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

            moments = torch.cat([striped.moments(one) for one in images.split(1)])
            return DiagonalGaussianDistribution(moments)
        return self.vae.encode(cast(Any, images), return_dict=False)[0]

    def _striped(self, batch: int, height: int, width: int) -> StripedVae | None:
        """What takes pictures of this size in stripes, where they take too much at once."""
        row_bytes = 4 * self.vae.config["block_out_channels"][1] * width  # of the widest layer
        need = _LIVE_MAPS * row_bytes * height * batch
        if self.memory_bytes is None or need <= self.memory_bytes:
            return None
        from tudsr.model.striped_vae import StripedVae

        rows = self.memory_bytes // (2 * _LIVE_STRIPES * row_bytes) // 2 * 2
        return StripedVae(self.vae, rows=min(max(rows, 2), 64))

    def save(self, folder: Path) -> None:
        """Write the autoencoder in diffusers' layout."""
        self.vae.save_pretrained(folder, safe_serialization=True)


def load_codec(folder: Path) -> LappedCodec | KlCodec:
    """The codec whose class ``config.json`` names.

    Raises:
        ModelError: no config, or a class that is not known.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"no codec at {folder}: {error}") from None
    kind = config.get("_class_name")
    if kind == "LappedCodec":
        return _load_lapped(folder, config)
    if kind == "AutoencoderKL":
        from diffusers import AutoencoderKL

        return KlCodec(_load_vae(folder, AutoencoderKL))
    raise ModelError(f"{folder}: codec {kind!r} is not LappedCodec or AutoencoderKL")


def _load_lapped(folder: Path, config: dict[str, Any]) -> LappedCodec:
    try:
        codec = LappedCodec(config["factor"], config["balance"], config.get("learned"))
        if codec.learned is not None:
            codec.learned.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"no complete codec at {folder}: {reason}") from None
    return codec.float()


def _load_vae(folder: Path, kind: type[AutoencoderKL]) -> AutoencoderKL:
    try:
        loaded = kind.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"no complete autoencoder at {folder}: {error}") from None
    vae, told = cast("tuple[AutoencoderKL, dict[str, Any]]", loaded)
    if told["missing_keys"]:
        raise ModelError(
            f"{folder} lacks {len(told['missing_keys'])} weights, such as "
            f"{told['missing_keys'][0]!r}: fetch or import the base again"
        )
    return vae.float()
