"""A picture's way through the model: its passes, their sizes, and their tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tudsr.images.canvas import Area
from tudsr.images.picture import Windows
from tudsr.images.resize import bicubic_resize
from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import Pass, pass_sizes, small_steps, split_scale
from tudsr.upscale.target import Target
from tudsr.upscale.tiles import Tile, plan_tiles
from tudsr.upscale.trust import Trust

Floats = NDArray[np.float32]

PROBE_PX = 96  # side of the windows that are looked at, pixels of the input
_PROBE_MARGIN_PX = 8  # of these, not judged: the model lacks context there


@dataclass(frozen=True)
class Way:
    """What is done to a picture.

    Attributes:
        passes: one after the other.
        sizes: height and width after each; the last is the target's to the pixel.
        plans: the tiles of each.
    """

    passes: tuple[Pass, ...]
    sizes: tuple[tuple[int, int], ...]
    plans: tuple[list[Tile], ...]

    @property
    def tiles(self) -> int:
        """How many, all passes together."""
        return sum(map(len, self.plans))

    @property
    def px(self) -> int:
        """Pixels of all tiles, overlap and padding included: what the work costs."""
        return sum(t.rows.padded * t.columns.padded for plan in self.plans for t in plan)


def way_of(
    size: tuple[int, int],
    target: Target,
    how: UpscaleSettings,
    multiple: int,
    passes: Sequence[Pass],
) -> Way:
    """The way of a picture of (height, width) by these passes.

    Args:
        size: of the picture, pixels.
        target: the wanted size.
        how: tiles.
        multiple: what the model needs a tile's sides to be multiples of.
        passes: their ratios multiply to the target's.
    """
    sizes = (*pass_sizes(*size, passes)[:-1], target.size(*size))
    plans = tuple(plan_tiles(*after, how, multiple) for after in sizes)
    return Way(tuple(passes), sizes, plans)


def longest_way(size: tuple[int, int], target: Target, how: UpscaleSettings, multiple: int) -> Way:
    """Of the ways that a picture of (height, width) may take, by what it shows, the costliest.

    Raises:
        SettingsError: a target out of reach for a picture of this size.
    """
    ratio = target.ratio(*size)
    passes = [split_scale(ratio, how.one_pass_to)]
    if how.small_steps_from is not None:
        passes.append(small_steps(ratio))
    return max((way_of(size, target, how, multiple, p) for p in passes), key=lambda way: way.px)


def damage_seen(pixels: Windows, twice: Callable[[Floats], Floats]) -> float:
    """How damaged an input looks, from four small windows: the ratio of `Trust`.

    Args:
        pixels: (h, w, 3) in [0, 1].
        twice: enlarges (h, w, 3) by 2 as stage 1 does, uncorrected.
    """
    trust = Trust()
    for area in _windows(*pixels.shape[:2]):
        lr = np.asarray(pixels[area])
        height, width = lr.shape[:2]
        inner = _without_margin(height), _without_margin(width)
        trust.look(lr, bicubic_resize(twice(lr), height, width), inner)
    return trust.ratio


def _windows(height: int, width: int) -> list[Area]:
    """In the middles of the quarters; of a small picture once."""
    rows, columns = _spans(height), _spans(width)
    return [(r, c) for r in rows for c in columns]


def _spans(length: int) -> list[slice]:
    side = min(PROBE_PX, length)
    starts = {min(max(0, length * part // 4 - side // 2), length - side) for part in (1, 3)}
    return [slice(start, start + side) for start in sorted(starts)]


def _without_margin(length: int) -> slice:
    margin = min(_PROBE_MARGIN_PX, length // 4)
    return slice(margin, length - margin)
