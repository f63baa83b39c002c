"""A Keras layer graph of convolutions, as TensorFlow.js stores it, evaluated by torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Pixels = np.ndarray[Any, np.dtype[np.float32]]


class LayerGraph:
    """``model.json`` and its weight shards; called with (H, W, 3) in [0, 1]."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.threads = threads
        raw = (folder / "model.json").read_bytes()
        described = json.loads(raw)
        (manifest,) = described["weightsManifest"]
        data = b"".join((folder / name).read_bytes() for name in manifest["paths"])
        self.key = hashlib.sha256(raw + data).hexdigest()
        self.layers = described["modelTopology"]["model_config"]["config"]["layers"]
        self.weights = _unpacked(manifest["weights"], data)

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> Pixels:
        """The enlarged picture, clipped to [0, 1]."""
        torch.set_num_threads(self.threads)
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        x = x.contiguous(memory_format=torch.channels_last)
        last_use = {n: i for i, layer in enumerate(self.layers) for n in _inputs(layer)}
        made: dict[str, Tensor] = {}
        result = x
        for index, layer in enumerate(self.layers):
            inputs = [made[name] for name in _inputs(layer)] or [x]
            result = made[layer["config"]["name"]] = self._run(layer, inputs)
            for name in _inputs(layer):
                if last_use[name] == index:
                    made.pop(name, None)
        return result.clamp(0, 1)[0].permute(1, 2, 0).contiguous().numpy()

    def _run(self, layer: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        kind, config = layer["class_name"], layer["config"]
        if kind == "Conv2D":
            name = config["name"]
            kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]
            return torch.nn.functional.conv2d(inputs[0], kernel, bias, padding="same")
        return _OPERATIONS[kind](inputs, config)


def _depth_to_space(inputs: list[Tensor], config: dict[str, Any]) -> Tensor:
    """TensorFlow keeps the colour innermost among the channels, torch outermost."""
    batch, channels, height, width = inputs[0].shape
    blocks = config["scale"] ** 2
    swapped = inputs[0].reshape(batch, blocks, channels // blocks, height, width).transpose(1, 2)
    return torch.pixel_shuffle(swapped.flatten(1, 2), config["scale"])


_OPERATIONS: dict[str, Callable[[list[Tensor], dict[str, Any]], Tensor]] = {
    "InputLayer": lambda x, _: x[0],
    "Activation": lambda x, _: x[0].relu(),
    "Concatenate": lambda x, _: torch.cat(x, 1),
    "Add": lambda x, _: torch.stack(x).sum(0) if len(x) > 2 else x[0] + x[1],
    "MultiplyBeta": lambda x, config: x[0] * config["beta"],
    "PixelShuffle4x": _depth_to_space,
    "PixelShuffle8x": _depth_to_space,
}


def _inputs(layer: dict[str, Any]) -> list[str]:
    return [node[0] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []


def _unpacked(listed: list[dict[str, Any]], data: bytes) -> dict[str, Tensor]:
    """Little-endian float32, one weight after another; kernels come as (h, w, in, out)."""
    weights: dict[str, Tensor] = {}
    start = 0
    for weight in listed:
        count = math.prod(weight["shape"])
        values = np.frombuffer(data, "<f4", count, start).reshape(weight["shape"])
        tensor = torch.from_numpy(values.copy())
        weights[weight["name"]] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        start += 4 * count
    return weights
