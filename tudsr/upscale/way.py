"""A picture's way through the model: its passes, their sizes, and their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tudsr.profile import UpscaleSettings
from tudsr.upscale.cascade import ONE_PASS_TO, Pass, pass_sizes, split_scale
from tudsr.upscale.target import Target
from tudsr.upscale.tiles import Tile, plan_tiles


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


def passes_of(ratio: float, how: UpscaleSettings, damaged: bool) -> tuple[Pass, ...]:
    """The passes of an input that looks damaged or does not, by the model's settings.

    Raises:
        SettingsError: a ratio out of range.
    """
    paper = damaged and how.small_steps_if_damaged
    return split_scale(ratio, ONE_PASS_TO if paper else how.one_pass_to)


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
    ways = [way_of(size, target, how, multiple, passes_of(ratio, how, d)) for d in (False, True)]
    return max(ways, key=lambda way: way.px)
