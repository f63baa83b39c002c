"""Stable Diffusion 2.1-base's architecture, whole and at an eighth of its channels.

The configurations are the published ones in diffusers' terms. Random weights of them prove the
whole path where the real ones are not at hand; `recognise` tells which of them a folder holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

_WIDTHS: dict[str, dict[str, Any]] = {
    "sd21": {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "prompt": 1024},
    "sd21-eighth": {"unet": (40, 80, 160, 160), "vae": (16, 32, 64, 64), "prompt": 128},
}
_GROUPS = {"sd21": 32, "sd21-eighth": 8}
SD_ARCHITECTURES = tuple(_WIDTHS)
PROMPT_TOKENS = 77
UNRECOGNISED = "other"

# What decides the weights' shapes and what is computed with them; the rest of a config is history.
_UNET_KEYS = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "down_block_types",
    "up_block_types",
    "layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "norm_num_groups",
    "use_linear_projection",
)
_VAE_KEYS = ("latent_channels", "block_out_channels", "layers_per_block", "norm_num_groups")


def unet_config(arch: str) -> dict[str, Any]:
    """The UNet's settings: heads of 64 channels (8 at an eighth), as many as in the original."""
    return {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "block_out_channels": _WIDTHS[arch]["unet"],
        "layers_per_block": 2,
        # diffusers' name for the number of heads.
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": _WIDTHS[arch]["prompt"],
        "norm_num_groups": _GROUPS[arch],
        "use_linear_projection": True,
    }


def vae_config(arch: str) -> dict[str, Any]:
    """The autoencoder's settings: factor 8, four latent channels."""
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": _WIDTHS[arch]["vae"],
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": _GROUPS[arch],
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }


def random_parts(arch: str) -> tuple[AutoencoderKL, UNet2DConditionModel, Tensor]:
    """Autoencoder, UNet and a (1, 77, D) prompt embedding, drawn from torch's global generator.

    The embedding is of unit variance, as the text encoder's last layer norm makes it.
    """
    vae = AutoencoderKL(**vae_config(arch))
    unet = UNet2DConditionModel(**unet_config(arch))
    return vae, unet, torch.randn(1, PROMPT_TOKENS, _WIDTHS[arch]["prompt"])


def recognise(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> str:
    """The architecture that two ``config.json`` describe, or ``other``."""
    for arch in SD_ARCHITECTURES:
        same_unet = _same(unet, unet_config(arch), _UNET_KEYS)
        if same_unet and _same(vae, vae_config(arch), _VAE_KEYS):
            return arch
    return UNRECOGNISED


def _same(given: Mapping[str, Any], wanted: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return all(_plain(given.get(key)) == _plain(wanted[key]) for key in keys)


def _plain(value: Any) -> Any:
    """JSON has lists where Python has tuples."""
    return list(value) if isinstance(value, list | tuple) else value
