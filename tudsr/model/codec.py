"""Codecs: images in [-1, 1] to latents and back, frozen in every stage (paper, Fig. 2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tudsr.errors import ModelError
from tudsr.images.atomic import write_json

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class PixelUnshuffleCodec(nn.Module):
    """A lossless codec: ``factor`` x ``factor`` pixels become channels, times ``scale``.

    ``scale`` makes the paper's t1 = 200 the mid-timestep of the pairs we train on: the squared
    difference of a x4 pair's latents is then near (1 - abar) / abar (docs/log.md).
    """

    def __init__(self, factor: int, scale: float) -> None:
        super().__init__()
        self.factor = factor
        self.scale = scale

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3·factor², H/factor, W/factor)."""
        return F.pixel_unshuffle(images, self.factor) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """The exact inverse of ``encode``."""
        return F.pixel_shuffle(latents / self.scale, self.factor)

    def save(self, folder: Path) -> None:
        """Write ``config.json``; there are no weights."""
        config = {"_class_name": "PixelUnshuffleCodec", "factor": self.factor, "scale": self.scale}
        write_json(folder / "config.json", config)


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


def load_codec(folder: Path) -> PixelUnshuffleCodec | KlCodec:
    """The codec whose class ``config.json`` names.

    Raises:
        ModelError: no config, or a class that is not known.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"no codec at {folder}: {error}") from None
    kind = config.get("_class_name")
    if kind == "PixelUnshuffleCodec":
        return PixelUnshuffleCodec(config["factor"], config["scale"])
    if kind == "AutoencoderKL":
        from diffusers import AutoencoderKL

        return KlCodec(AutoencoderKL.from_pretrained(str(folder), use_safetensors=True).float())
    raise ModelError(f"{folder}: codec {kind!r} is not PixelUnshuffleCodec or AutoencoderKL")
