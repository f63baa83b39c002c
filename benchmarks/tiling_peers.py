"""What `benchmarks.tiling` holds beside each other: models by name, and other ways to tile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tudsr.profile import UpscaleSettings, load_profile
from tudsr.upscale.cascade import pass_sizes, split_scale
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.interpolate import enlarge_window
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler

SCALE = 4
# Diffusers' autoencoders overlap a quarter of a tile and fade linearly over all of it.
_DIFFUSERS_OVERLAP = 0.25
_SMALL = UpscaleSettings(tile_px=272, overlap_px=32)


class Idle:
    """A model that changes nothing."""

    size_multiple = 16
    side_by_side = 1

    @property
    def beside(self) -> Idle:
        """Itself."""
        return self

    def restore(self, image: np.ndarray, stage: int, full_precision: bool = False) -> np.ndarray:
        """The same."""
        return image

    def restore_batch(self, images: Any, stage: int, full_precision: bool = False) -> Any:
        """The same."""
        return list(images)


class _Fixed(ChosenModel):
    """A command's model that is not in a bundle."""

    made: Upscaler

    def upscaler(self) -> Upscaler:
        return self.made

    def signature(self) -> str:
        return "benchmark"


def chosen_of(kind: str, where: str, scale: float) -> ChosenModel:
    """As the command line does: kind ``model`` a bundle, ``random`` an architecture, ``idle``."""
    if kind == "model":
        return ChosenModel(where or None, Target(scale=scale))
    chosen = _Fixed(None, Target(scale=scale))
    chosen.made = upscaler_of(kind, where)
    return chosen


@cache
def upscaler_of(kind: str, where: str, whole: bool = False) -> Upscaler:
    """The model by name; ``whole`` enlarges in one tile."""
    if kind == "model":
        loaded = ChosenModel(where or None, Target(scale=SCALE)).upscaler()
        runtime, settings = loaded.runtime, loaded.settings
    else:
        settings = _SMALL if kind == "idle" else load_profile("sd21").upscale
        runtime = Idle() if kind == "idle" else _random_runtime(where, None if whole else settings)
    multiple = runtime.size_multiple
    # A shifted copy or a peer's tiles must not go another way than the picture itself.
    changes: dict[str, object] = {"small_steps_if_damaged": False}
    if whole:
        changes["tile_px"] = 4096 // multiple * multiple
    return Upscaler(runtime, settings.model_copy(update=changes))


def hard_tiles(kind: str, where: str) -> Callable[[np.ndarray], np.ndarray]:
    """Tiles side by side."""
    ours = upscaler_of(kind, where)
    hard = Upscaler(ours.runtime, ours.settings.model_copy(update={"overlap_px": 0}))
    return lambda lr: hard.upscale(lr, SCALE)


def diffusers_style(kind: str, where: str) -> Callable[[np.ndarray], np.ndarray]:
    """Tiles that overlap by a quarter, cut at the border, faded linearly into the ones before.

    Without the correction of colours, whose slow changes move no seam.
    """
    ours = upscaler_of(kind, where)

    def enlarge(lr: np.ndarray) -> np.ndarray:
        passes = split_scale(SCALE, ours.settings.one_pass_to)
        height, width = lr.shape[:2]
        for step, size in zip(passes, pass_sizes(height, width, passes), strict=True):
            whole = (slice(0, size[0]), slice(0, size[1]))
            method = step.interpolation(ours.settings.interpolation)
            wide = np.clip(enlarge_window(lr, size, whole, method), 0, 1)
            lr = _faded(ours, wide, step.stage)
        return lr

    return enlarge


def _faded(ours: Upscaler, image: np.ndarray, stage: int) -> np.ndarray:
    tile, multiple = ours.settings.tile_px, ours.runtime.size_multiple
    stride = int(tile * (1 - _DIFFUSERS_OVERLAP)) // multiple * multiple
    out = np.zeros_like(image)
    for top in range(0, max(1, image.shape[0] - (tile - stride)), stride):
        for left in range(0, max(1, image.shape[1] - (tile - stride)), stride):
            part = image[top : top + tile, left : left + tile]
            pad = [(0, -part.shape[i] % multiple) for i in (0, 1)]
            made = ours.runtime.restore(np.pad(part, (*pad, (0, 0)), "reflect"), stage)
            made = made[: part.shape[0], : part.shape[1]]
            down = _ramp(part.shape[0], top, tile - stride)
            right = _ramp(part.shape[1], left, tile - stride)
            area = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
            share = (down[:, None] * right)[:, :, None]
            # The later tile fades in over what is there, as diffusers' blend_v and blend_h do.
            out[area] = out[area] * (1 - share) + made * share
    return out


def _ramp(length: int, start: int, fade: int) -> np.ndarray:
    ramp = np.ones(length, np.float32)
    if start:
        ramp[:fade] = (np.arange(min(fade, length)) / fade)[: len(ramp)]
    return ramp


def _random_runtime(arch: str, upscale: UpscaleSettings | None) -> Any:
    """Random weights and fresh adapters, which change nothing: tiling is all that is measured."""
    from tudsr.model.adapters import add_adapter, save_adapter
    from tudsr.model.base import random_base
    from tudsr.model.runtime import TorchRuntime
    from tudsr.profile import RuntimeSettings

    base, lora = random_base(arch, 0), load_profile("sd21").stage1.lora
    with tempfile.TemporaryDirectory() as folder:
        paths = {stage: Path(folder) / f"{stage}.safetensors" for stage in (1, 2)}
        for stage, path in paths.items():
            add_adapter(base.unet, f"stage{stage}", lora, stage)
            save_adapter(path, base.unet, f"stage{stage}", lora, {1: 200, 2: 50}[stage])
        settings = RuntimeSettings(precision="fp32")
        return TorchRuntime(random_base(arch, 0), paths, settings, upscale=upscale)
