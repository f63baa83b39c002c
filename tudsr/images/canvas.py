"""Samples of a picture that may be larger than memory, read and written by windows."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tudsr.errors import ImageError

# Up to this size a canvas is an array. Above it lies in a file, which the system keeps in memory
# as long as nobody else needs it: 40 s of work at 8192 x 8192 lose less than a second to it.
IN_MEMORY_BYTES = 4 * 2**20
BAND_BYTES = 2**20
_BLOCK_PX = 128

Area = tuple[slice, slice]


class Canvas:
    """(H, W, C), zero at first; ``canvas[rows]`` and ``canvas[rows, columns]`` are copies.

    A large one lies in a temporary file without a name, so that a killed process leaves nothing
    behind. Used like an array by whoever reads or writes windows of it; several threads may, of
    different windows.

    Args:
        height: pixels.
        width: pixels.
        folder: where the file goes; None is the system's folder for temporary files (``TMPDIR``).
        channels: samples a pixel.
        dtype: of a sample.

    Raises:
        ImageError: ``no_space``: the disk is full.
    """

    def __init__(
        self,
        height: int,
        width: int,
        folder: Path | None = None,
        channels: int = 3,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.shape: tuple[int, int, int] = (height, width, channels)
        self.dtype = np.dtype(dtype)
        self._px_bytes = channels * self.dtype.itemsize
        self._row_bytes = width * self._px_bytes
        self._array: NDArray[Any] | None = None
        self._file: Any = None
        self._lock = Lock()  # of the place in the file
        if height * self._row_bytes <= IN_MEMORY_BYTES:
            self._array = np.zeros(self.shape, self.dtype)
            return
        where = folder or Path(tempfile.gettempdir())
        try:
            if shutil.disk_usage(where).free < height * self._row_bytes:
                raise self._full("too little is free")
            self._file = tempfile.TemporaryFile(dir=where, buffering=0)  # noqa: SIM115
            self._file.truncate(height * self._row_bytes)
        except OSError as error:
            raise self._full(error.strerror or error) from None

    def __getitem__(self, area: slice | Area) -> NDArray[Any]:
        rows, columns = self._bounds(area)
        if self._array is not None:
            return self._array[rows, columns].copy()
        size = rows.stop - rows.start, columns.stop - columns.start
        out = np.empty((*size, self.shape[2]), self.dtype)
        for at, part in self._segments(rows, columns, out):
            with self._lock:
                self._file.seek(at)
                self._file.readinto(part)
        return out

    def __setitem__(self, area: slice | Area, values: NDArray[Any]) -> None:
        rows, columns = self._bounds(area)
        if self._array is not None:
            self._array[rows, columns] = values
            return
        block = np.ascontiguousarray(values, self.dtype)
        try:
            for at, part in self._segments(rows, columns, block):
                with self._lock:
                    self._file.seek(at)
                    while len(part):
                        part = part[self._file.write(part) :]
        except OSError as error:
            raise self._full(error.strerror or error) from None

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

    def _segments(self, rows: slice, columns: slice, block: NDArray[Any]) -> Any:
        """Each run of bytes of a window: where it lies in the file, and where in ``block``."""
        if columns == slice(0, self.shape[1]):
            yield rows.start * self._row_bytes, block.data.cast("B")
            return
        for row, line in zip(range(rows.start, rows.stop), block, strict=True):
            yield row * self._row_bytes + columns.start * self._px_bytes, line.data.cast("B")

    def _full(self, why: object) -> ImageError:
        return ImageError(
            "no_space",
            f"no room for {math.prod(self.shape) * self.dtype.itemsize / 1e6:,.0f} MB of "
            f"intermediate results ({why}): free some, or set TMPDIR to a folder on a larger disk",
        )


class Channels:
    """Some channels of a canvas of whole numbers, as float32 in [0, 1] by windows.

    Args:
        canvas: of uint8 or uint16.
        which: one channel, for (H, W), or a slice of them, for (H, W, C).
    """

    def __init__(self, canvas: Canvas, which: int | slice) -> None:
        self._canvas, self._which = canvas, which
        one = np.empty((1, 1, canvas.shape[2]))[..., which]
        self.shape: tuple[int, ...] = (*canvas.size, *one.shape[2:])

    def __getitem__(self, area: slice | Area) -> NDArray[np.float32]:
        return unit(self._canvas[area][..., self._which])


def unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Whole numbers as float32 in [0, 1]."""
    out = samples.astype(np.float32)
    out /= np.float32(np.iinfo(samples.dtype).max)
    return out


def bands(height: int, width: int) -> list[slice]:
    """The rows of a picture in groups of about 1 MiB: the same ones however much memory there is.

    Every pass over a picture goes by them, so a result never depends on what fits in memory.
    """
    rows = max(1, BAND_BYTES // (12 * width))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def blocks(height: int, width: int, reach_px: int) -> list[tuple[Area, Area, Area]]:
    """A picture in squares of 128 pixels, each with its surroundings: for what looks around.

    Returns:
        For each block: itself, itself with up to ``reach_px`` pixels around it, and where it lies
        in the latter.
    """
    return [
        ((rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2]))
        for rows in _spans(height, reach_px)
        for columns in _spans(width, reach_px)
    ]


def _spans(length: int, reach_px: int) -> list[tuple[slice, slice, slice]]:
    spans: list[tuple[slice, slice, slice]] = []
    for start in range(0, length, _BLOCK_PX):
        stop = min(start + _BLOCK_PX, length)
        first = max(0, start - reach_px)
        around = slice(first, min(length, stop + reach_px))
        spans.append((slice(start, stop), around, slice(start - first, stop - first)))
    return spans
