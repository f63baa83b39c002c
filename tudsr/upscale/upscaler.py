"""The one way to enlarge a picture: pixels in, pixels out, a runtime for each tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import ImageError, ModelError, SettingsError
from tudsr.images.colour import colour_fix
from tudsr.images.picture import Picture
from tudsr.images.resize import bicubic_resize
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import Pass, given_passes, pass_sizes, split_scale
from tudsr.upscale.interpolate import enlarge_window
from tudsr.upscale.tiles import Tile, blend, pad_tile, plan_tiles

Progress = Callable[[int, int], None]
Stages = Sequence[tuple[float, int]]


class TileRuntime(Protocol):
    """What restores one tile: torch, or an exported graph that needs no torch."""

    size_multiple: int

    def restore(self, image: NDArray[np.float32], stage: int) -> NDArray[np.float32]:
        """(H, W, 3) in [0, 1] to the same shape; H and W multiples of ``size_multiple``."""
        ...

    def restore_batch(
        self, images: Sequence[NDArray[np.float32]], stage: int
    ) -> list[NDArray[np.float32]]:
        """Several tiles of one shape at once, of one picture or of many."""
        ...


class Upscaler:
    """Enlarges pictures of any size with memory that does not grow with the model's cost.

    Args:
        runtime: restores tiles.
        settings: tile, overlap and colour correction.
        progress: called with (tiles done, tiles in all) after every tile.

    Raises:
        SettingsError: a tile that the runtime cannot take, or an overlap that leaves no tile.
    """

    def __init__(
        self, runtime: TileRuntime, settings: UpscaleSettings, progress: Progress | None = None
    ) -> None:
        _check_settings(settings, runtime.size_multiple)
        self.runtime, self.settings, self.progress = runtime, settings, progress

    def upscale(
        self, pixels: NDArray[np.float32], scale: float, stages: Stages | None = None
    ) -> NDArray[np.float32]:
        """Enlarge (H, W, 3) in [0, 1] to (round(H * scale), round(W * scale), 3) in [0, 1].

        One stage runs over all tiles before the next begins, so an adapter is switched once. Held
        at a time: the input, the stage's input and output, and one tile.

        Args:
            pixels: float32, finite.
            scale: 1.5 to 16; see `split_scale`.
            stages: (ratio, stage) pairs instead of those of ``scale``, for ablations.

        Raises:
            SettingsError: a scale or stages that cannot be used.
            ImageError: not three channels, or values that are not finite.
            ModelError: the model's result is not finite or has another shape.
        """
        _check_pixels(pixels)
        passes = split_scale(scale) if stages is None else given_passes(stages, scale)
        sizes = pass_sizes(pixels.shape[0], pixels.shape[1], passes)
        plans = [self._plan(size) for size in sizes]
        report = _Counter(self.progress, sum(map(len, plans)))
        current = pixels
        for step, size, plan in zip(passes, sizes, plans, strict=True):
            current = self._run(current, size, step, plan, report)
        fixed = colour_fix(current, pixels, self.settings.colour, out=current)
        return np.clip(fixed, 0, 1, out=fixed)

    def upscale_picture(
        self, picture: Picture, scale: float, stages: Stages | None = None
    ) -> Picture:
        """Enlarge a picture; depth, colour profile, metadata and transparency are kept.

        Transparency takes a bicubic path of its own. Raises as `upscale` does.
        """
        if picture.alpha is None:
            return replace(picture, pixels=self.upscale(picture.pixels, scale, stages))
        pixels = self.upscale(_fill_invisible(picture.pixels, picture.alpha), scale, stages)
        alpha = bicubic_resize(picture.alpha, *pixels.shape[:2])
        return replace(picture, pixels=pixels, alpha=np.clip(alpha, 0, 1))

    def _plan(self, size: tuple[int, int]) -> list[Tile]:
        how = self.settings
        multiple = self.runtime.size_multiple
        return plan_tiles(*size, how.tile_px, how.overlap_px, multiple, how.floor_px)

    def _run(
        self,
        image: NDArray[np.float32],
        size: tuple[int, int],
        step: Pass,
        plan: list[Tile],
        report: _Counter,
    ) -> NDArray[np.float32]:
        """One stage over all its tiles."""
        canvas = np.zeros((*size, 3), np.float32)
        for tile in plan:
            # Bicubic overshoots at edges; training clips it too.
            enlarged = np.clip(enlarge_window(image, size, tile.area, step.interpolation), 0, 1)
            padded = pad_tile(enlarged, tile)
            restored = self.runtime.restore(padded, step.stage)
            _check_restored(restored, padded, step.stage)
            blend(canvas, restored, tile)
            report.step()
        return canvas


class _Counter:
    """Counts tiles for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.done, self.total = progress, 0, total

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _fill_invisible(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give fully transparent pixels the colour of the nearest visible one.

    What is stored under alpha 0 is arbitrary, often black; interpolation and model would draw it
    into the visible edge.
    """
    from scipy.ndimage import distance_transform_edt

    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    nearest = distance_transform_edt(~visible, return_distances=False, return_indices=True)
    return pixels[tuple(np.asarray(nearest))]


def _check_settings(settings: UpscaleSettings, multiple: int) -> None:
    tile_px, overlap_px = settings.tile_px, settings.overlap_px
    if tile_px % multiple:
        nearest = max(1, round(tile_px / multiple)) * multiple
        raise SettingsError(
            f"tile_px is {tile_px}, the model needs a multiple of {multiple}: try {nearest}"
        )
    if overlap_px > tile_px // 2:
        raise SettingsError(
            f"overlap_px is {overlap_px}, at most half of tile_px ({tile_px}) makes sense: "
            f"try {tile_px // 8}"
        )


def _check_pixels(pixels: NDArray[np.float32]) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 1:
        raise ImageError(
            "unsupported_mode", f"pixels have shape {pixels.shape}: give (height, width, 3)"
        )
    if not np.isfinite(pixels).all():
        raise ImageError("unsupported_mode", "the picture has values that are not finite")


def _check_restored(restored: NDArray[np.float32], given: NDArray[np.float32], stage: int) -> None:
    if restored.shape != given.shape:
        raise ModelError(f"stage {stage} turned {given.shape} into {restored.shape}")
    if not np.isfinite(restored).all():
        raise ModelError(
            f"stage {stage} gave values that are not finite: the model is damaged, or its "
            "precision too low for it; try fp32"
        )
