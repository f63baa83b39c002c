"""Tiles: where they lie, and how their results are blended without a seam.

Tiles are spread evenly, so that neighbours overlap by as much as their number allows. Along each
axis they hand over along one smooth ramp in the middle half of their overlap; the outer quarters,
where a tile lacks context, count for nothing. A tile's window is the difference of the ramps at its
two ends: these telescope, so they sum to 1 wherever tiles lie, and nothing needs to be normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import SettingsError
from tudsr.profile import UpscaleSettings

# Ramps are rounded to this fraction: products of two are then multiples of 2**-24, which float32
# adds without rounding, and the weights of a pixel sum to 1 exactly.
_STEPS = 4096


@dataclass(frozen=True)
class Ramp:
    """Where two neighbouring tiles hand over, along one axis: its centre and width in pixels."""

    centre: float
    width: float

    def risen(self, x: NDArray[Any]) -> NDArray[Any]:
        """0 to 1 with zero slope at both ends (3t² - 2t³); a step without overlap."""
        t = np.clip((x - self.centre) / max(self.width, 1e-6) + 0.5, 0, 1)
        return np.round(t * t * (3 - 2 * t) * _STEPS) / _STEPS


@dataclass(frozen=True)
class Span:
    """A tile's extent along one axis.

    Attributes:
        start: first pixel.
        size: pixels of the picture that it covers.
        padded: pixels that the model sees; more than ``size`` where a picture is smaller than a
            tile and not a multiple of what the codec needs.
        fade_in: the ramp shared with the tile before; None at the picture's edge.
        fade_out: the same with the tile after.
    """

    start: int
    size: int
    padded: int
    fade_in: Ramp | None = None
    fade_out: Ramp | None = None

    @property
    def stop(self) -> int:
        """One past the last pixel."""
        return self.start + self.size

    @cached_property
    def window(self) -> NDArray[np.float32]:
        """(size,) blend weights, 0 to 1."""
        x = np.arange(self.start, self.stop) + 0.5
        risen = 1 if self.fade_in is None else self.fade_in.risen(x)
        fallen = 0 if self.fade_out is None else self.fade_out.risen(x)
        return np.full(self.size, risen - fallen, np.float32)


@dataclass(frozen=True)
class Tile:
    """One tile: its rows and its columns."""

    rows: Span
    columns: Span

    @property
    def area(self) -> tuple[slice, slice]:
        """The part of the picture that it covers."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)


def check_tiles(how: UpscaleSettings, multiple: int) -> None:
    """That a model which needs sides of ``multiple`` can take such tiles and windows.

    Raises:
        SettingsError: it cannot, or they overlap by more than half.
    """
    tile_px = how.tile_px
    if tile_px % multiple:
        nearest = max(1, round(tile_px / multiple)) * multiple
        raise SettingsError(
            f"tile_px is {tile_px}, the model needs a multiple of {multiple}: try {nearest}"
        )
    _check_overlap("overlap_px", how.overlap_px, "tile_px", tile_px)
    if how.window_px % multiple:
        raise SettingsError(
            f"window_px is {how.window_px}, the model needs a multiple of {multiple}, or 0"
        )
    _check_overlap("window_overlap_px", how.window_overlap_px, "window_px", how.window_px)


def plan_tiles(height: int, width: int, how: UpscaleSettings, multiple: int = 1) -> list[Tile]:
    """Cover a picture with as few tiles of one size as it takes, row by row, spread evenly.

    They start at multiples of ``multiple``, but for the last, where ``tile_px - overlap_px`` is
    one: a codec's lattice is then the same in all. A side that is not longer than a tile gets one
    tile of that side, padded up to ``multiple`` and to the floor. Even tiles are as small as the
    same number of them allows: less is made twice.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        how: side of a tile, a multiple of ``multiple``; least overlap of neighbours, below it; the
            least side that the model gets to see, where a longer one than a tile counts as one;
            and whether tiles are even.
        multiple: what the model needs a tile's sides to be multiples of.
    """
    rows, columns = (_spans(side, how, multiple) for side in (height, width))
    return [Tile(r, c) for r in rows for c in columns]


def pad_tile(image: NDArray[np.float32], tile: Tile) -> NDArray[np.float32]:
    """Reflect (H, W, 3) at its bottom and right up to the size that the model sees."""
    down, right = tile.rows.padded - tile.rows.size, tile.columns.padded - tile.columns.size
    if down == 0 and right == 0:
        return image
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="reflect")


def blend(canvas: Any, restored: NDArray[np.float32], tile: Tile) -> None:
    """Add a restored tile to an array or `Canvas` (H, W, 3) that starts at zero, less padding."""
    inner = restored[: tile.rows.size, : tile.columns.size]
    weights = tile.rows.window[:, None, None] * tile.columns.window[None, :, None]
    canvas[tile.area] += inner * weights


def _check_overlap(name: str, overlap_px: int, of: str, side_px: int) -> None:
    if overlap_px > side_px // 2:
        raise SettingsError(
            f"{name} is {overlap_px}, at most half of {of} ({side_px}) makes sense: "
            f"try {side_px // 8}"
        )


def _spans(length: int, how: UpscaleSettings, multiple: int) -> list[Span]:
    floor_px, overlap_px = min(how.floor_px, how.tile_px), how.overlap_px
    if length <= how.tile_px:
        return [Span(0, length, _raised(max(length, floor_px), multiple))]
    tile_px = how.tile_px
    count = -(-(length - overlap_px) // (tile_px - overlap_px))
    if how.even_tiles:
        even = _raised(-(-(length + (count - 1) * overlap_px) // count), multiple)
        tile_px = min(tile_px, max(even, floor_px))
    grid = multiple if (tile_px - overlap_px) % multiple == 0 else 1
    last = length - tile_px
    starts = [*(_raised(-(-i * last // (count - 1)), grid) for i in range(count - 1)), last]
    ramps = [Ramp((a + tile_px + b) / 2, (a + tile_px - b) / 2) for a, b in pairwise(starts)]
    ends = zip([None, *ramps], [*ramps, None], strict=True)
    return [Span(start, tile_px, tile_px, *ends) for start, ends in zip(starts, ends, strict=True)]


def _raised(px: int, multiple: int) -> int:
    return -(-px // multiple) * multiple
