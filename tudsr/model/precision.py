"""Half precision for the networks, no less than single for what is added up over a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def at_least_single(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def freeze_in_half(module: nn.Module) -> None:
    """Keep frozen weights of convolutions and linear layers in bf16, for use under autocast.

    Autocast rounds them to that at every use anyway, and keeps the rounded copy with the graph
    until the backward pass: of SD2.1's UNet 1.7 GB. What is trained stays as it is.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad and parameter.dtype == torch.float32:
                    parameter.data = parameter.data.bfloat16()
