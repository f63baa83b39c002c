"""How much memory a picture may take, and what takes it.

Tiles, bands and canvases (`tudsr.upscale.canvas`) do not grow with the picture. What does: the
input, which is decoded whole, and a result in a format whose encoder wants it whole.
"""

from __future__ import annotations

import os
from pathlib import Path

from tudsr.errors import ImageError, SettingsError

# The decoder's copy (4 or 8 bytes a pixel) and float32 RGB with alpha beside it.
INPUT_BYTES_PER_PX = 24
# 3 or 4 bytes a pixel in 8 bits, and the encoder's copy of the same size.
OUTPUT_BYTES_PER_PX = {"JPEG": 8, "WEBP": 8, "AVIF": 8}
_BANDS_BYTES = 48 * 2**20
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def default_budget() -> int:
    """Half of this machine's or container's memory, bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _LIMITS):
        text = path.read_text("ascii").strip() if path.is_file() else ""
        sizes += [int(text)] if text.isdigit() else []
    return min(sizes) // 2


def most_input_px(budget_bytes: int) -> int:
    """The largest input that fits.

    Raises:
        SettingsError: not even the bands fit.
    """
    if budget_bytes < 2 * _BANDS_BYTES:
        raise SettingsError(
            f"a memory of {budget_bytes / 2**20:.0f} MiB is too little: give at least "
            f"{2 * _BANDS_BYTES / 2**20:.0f}"
        )
    return (budget_bytes - _BANDS_BYTES) // INPUT_BYTES_PER_PX


def check_result(budget_bytes: int, input_px: int, output_px: int, fmt: str) -> None:
    """Refuse, before any work, a result whose format cannot be written in parts and does not fit.

    Raises:
        ImageError: ``too_large``.
    """
    whole = OUTPUT_BYTES_PER_PX.get(fmt, 0) * output_px
    need = _BANDS_BYTES + INPUT_BYTES_PER_PX * input_px + whole
    if whole and need > budget_bytes:
        raise ImageError(
            "too_large",
            f"{output_px / 1e6:.0f} megapixels as {fmt} take {need / 2**20:,.0f} MiB, over the "
            f"limit of {budget_bytes / 2**20:,.0f}: write PNG or TIFF, which need no more for a "
            "larger result, or raise the limit (--memory)",
        )
