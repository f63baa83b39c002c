"""How much memory a picture may take, and what takes it.

Bands and canvases (`tudsr.images.canvas`) do not grow with the picture. Beside them one of three is
held at a time: the input while it is decoded, in the formats that cannot be decoded in parts
(`tudsr.images.decode.held_bytes`); tiles in the model; the result while it is encoded, in the
formats whose encoder wants it whole.
"""

from __future__ import annotations

import os
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

from tudsr.errors import ImageError, SettingsError

if TYPE_CHECKING:
    from tudsr.profile import UpscaleSettings

# Everything else is streamed, to a file, so what bounds it is the disk and patience.
MAX_INPUT_PX = 2**30
MAX_SIDE_PX = 2**17

_BANDS_BYTES = 48 * 2**20
# Measured, less than the next whole number of bytes a pixel (docs/upscaling.md).
_ENCODER_BYTES_PER_PX = {"JPEG": 5, "WEBP": 11, "AVIF": 34}
# A pixel of a tile in the model, by architecture; SD's autoencoder in stripes. small: 432 to 556
# measured, one tile and two side by side, of 272 to 768 pixels (docs/upscaling.md).
_TILE_BYTES_PER_PX = {"smoke": 800, "small": 600, "sd21-eighth": 200, "sd21": 800}
_LEAST_TILE_PX = 128
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def default_budget() -> int:
    """Half of this machine's or container's memory, bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _LIMITS):
        text = path.read_text("ascii").strip() if path.is_file() else ""
        sizes += [int(text)] if text.isdigit() else []
    return min(sizes) // 2


def beside_bands(budget_bytes: int) -> int:
    """What is left for input, tile or result.

    Raises:
        SettingsError: not even the bands fit.
    """
    if budget_bytes < 2 * _BANDS_BYTES:
        raise SettingsError(
            f"a memory of {budget_bytes / 2**20:.0f} MiB is too little: give at least "
            f"{2 * _BANDS_BYTES / 2**20:.0f}"
        )
    return budget_bytes - _BANDS_BYTES


def fitting_tile(budget_bytes: int, tile_px: int, arch: str) -> int:
    """The side of the largest tile that fits, at most ``tile_px``; 128 at least, which is small.

    Args:
        budget_bytes: for everything.
        tile_px: the wanted side.
        arch: of the base; one that is not known counts as SD2.1's.
    """
    side = isqrt(beside_bands(budget_bytes) // _tile_bytes_per_px(arch))
    return min(tile_px, max(_LEAST_TILE_PX, side // _LEAST_TILE_PX * _LEAST_TILE_PX))


def tiles_at_once(budget_bytes: int, tile_px: int, arch: str) -> int:
    """How many tiles of this side fit at once, 1 at least.

    Args:
        budget_bytes: for everything.
        tile_px: the side.
        arch: as for `fitting_tile`.
    """
    return max(1, beside_bands(budget_bytes) // (_tile_bytes_per_px(arch) * tile_px**2))


def fitted(how: UpscaleSettings, budget_bytes: int, arch: str) -> UpscaleSettings:
    """Settings whose tiles fit (`fitting_tile`), with an overlap of at most a quarter of them."""
    tile_px = fitting_tile(budget_bytes, how.tile_px, arch)
    if tile_px == how.tile_px:
        return how
    overlap_px = min(how.overlap_px, tile_px // 4)
    return how.model_copy(update={"tile_px": tile_px, "overlap_px": overlap_px})


def smaller_tile(own: UpscaleSettings, used: UpscaleSettings, budget_bytes: int) -> str | None:
    """A sentence where the tiles used are not the model's own; None where they are."""
    if used.tile_px == own.tile_px:
        return None
    return (
        f"tiles of {used.tile_px} pixels, not the model's {own.tile_px}, fit the memory of "
        f"{budget_bytes / 2**20:,.0f} MiB (--memory, TUDSR_SERVE_MEMORY); the result differs a "
        "little"
    )


def check_side(size: tuple[int, int]) -> None:
    """Refuse a result, (height, width), with a longer side than `MAX_SIDE_PX`.

    Bands are rows as wide as the picture, and the correction keeps weights for each of an input's
    rows and columns: both grow with a side.

    Raises:
        ImageError: ``too_large``.
    """
    if max(size) > MAX_SIDE_PX:
        raise ImageError(
            "too_large",
            f"the result would have a side of {max(size):,} pixels, over the limit of "
            f"{MAX_SIDE_PX:,}: ask for a smaller one, or cut the picture up",
        )


def check_result(budget_bytes: int, size: tuple[int, int], fmt: str) -> None:
    """Refuse, before any work, a result, (height, width), that does not fit.

    Its side is too long, or its format cannot be written in parts.

    Raises:
        ImageError: ``too_large``.
    """
    check_side(size)
    output_px = size[0] * size[1]
    whole = _ENCODER_BYTES_PER_PX.get(fmt, 0) * output_px
    if whole > beside_bands(budget_bytes):
        raise ImageError(
            "too_large",
            f"{output_px / 1e6:.0f} megapixels as {fmt} take {whole / 2**20:,.0f} MiB, over the "
            f"limit of {beside_bands(budget_bytes) / 2**20:,.0f}: write PNG or TIFF, which need no "
            "more for a larger result, or raise the limit (--memory, TUDSR_SERVE_MEMORY)",
        )


def _tile_bytes_per_px(arch: str) -> int:
    return _TILE_BYTES_PER_PX.get(arch, _TILE_BYTES_PER_PX["sd21"])
