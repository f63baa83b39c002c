"""A picture that may be larger than memory, read and written by windows."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.errors import ImageError

# Up to this size a canvas is an array. Above it lies in a file, which the system keeps in memory
# as long as nobody else needs it: 40 s of work at 8192 x 8192 lose less than a second to it.
IN_MEMORY_BYTES = 4 * 2**20
BAND_BYTES = 2**20

Area = tuple[slice, slice]


class Canvas:
    """(H, W, 3) float32, zero at first; ``canvas[rows]`` and ``canvas[rows, columns]`` are copies.

    A large one lies in a temporary file without a name, so that a killed process leaves nothing
    behind. Used like an array by whoever reads or writes windows of it.

    Args:
        height: pixels.
        width: pixels.
        folder: where the file goes; None is the system's folder for temporary files (``TMPDIR``).

    Raises:
        ImageError: ``no_space``: the disk is full.
    """

    def __init__(self, height: int, width: int, folder: Path | None = None) -> None:
        self.shape: tuple[int, int, int] = (height, width, 3)
        self._row_bytes = width * 12
        self._array: NDArray[np.float32] | None = None
        self._file: Any = None
        if height * self._row_bytes <= IN_MEMORY_BYTES:
            self._array = np.zeros(self.shape, np.float32)
            return
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
            self._file.truncate(height * self._row_bytes)
        except OSError as error:
            raise self._full(error) from None

    def __getitem__(self, area: slice | Area) -> NDArray[np.float32]:
        rows, columns = self._bounds(area)
        if self._array is not None:
            return self._array[rows, columns].copy()
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.float32)
        for at, part in self._segments(rows, columns, out):
            self._file.seek(at)
            self._file.readinto(part)
        return out

    def __setitem__(self, area: slice | Area, values: NDArray[np.float32]) -> None:
        rows, columns = self._bounds(area)
        if self._array is not None:
            self._array[rows, columns] = values
            return
        block = np.ascontiguousarray(values, np.float32)
        try:
            for at, part in self._segments(rows, columns, block):
                self._file.seek(at)
                while len(part):
                    part = part[self._file.write(part) :]
        except OSError as error:
            raise self._full(error) from None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.shape[:2]

    def close(self) -> None:
        """Give back memory and disk; the canvas is of no use afterwards."""
        if self._file is not None:
            self._file.close()
        self._array = None

    def _bounds(self, area: slice | Area) -> Area:
        rows, columns = area if isinstance(area, tuple) else (area, slice(None))
        (top, bottom, _), (left, right, _) = (
            s.indices(n) for s, n in zip((rows, columns), self.shape[:2], strict=True)
        )
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def _segments(self, rows: slice, columns: slice, block: NDArray[np.float32]) -> Any:
        """Each run of bytes of a window: where it lies in the file, and where in ``block``."""
        if columns == slice(0, self.shape[1]):
            yield rows.start * self._row_bytes, block.data.cast("B")
            return
        for row, line in zip(range(rows.start, rows.stop), block, strict=True):
            yield row * self._row_bytes + columns.start * 12, line.data.cast("B")

    def _full(self, error: OSError) -> ImageError:
        return ImageError(
            "no_space",
            f"no room for {math.prod(self.shape) * 4 / 1e6:,.0f} MB of intermediate results "
            f"({error.strerror or error}): free some, or set TMPDIR to a folder on a larger disk",
        )


def bands(height: int, width: int) -> list[slice]:
    """The rows of a picture in groups of about 1 MiB: the same ones however much memory there is.

    Every pass over a picture goes by them, so a result never depends on what fits in memory.
    """
    rows = max(1, BAND_BYTES // (12 * width))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
