"""The camera's turn, EXIF's orientations 2 to 8, undone on the way from decoder to canvas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tudsr.images.decode import Decoder

_ASIDE = (5, 6, 7, 8)
_GATHERED_BYTES = 8 * 2**20


def turned(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Height and width of a picture as stored, to those of the upright one."""
    return (size[1], size[0]) if turn in _ASIDE else size


def decode_into(out: Any, decoder: Decoder, turn: int) -> None:
    """All rows of a decoder, upright, into an array or `Canvas` of the turned size."""
    done, aside = 0, turn in _ASIDE
    for part in _gathered(decoder.rows) if aside else decoder.rows:
        start, stop = done, done + len(part)
        if turn in ((6, 7) if aside else (3, 4)):
            start, stop = decoder.size[0] - stop, decoder.size[0] - start
        area = (slice(None), slice(start, stop)) if aside else slice(start, stop)
        out[area] = _upright(part, turn)
        done += len(part)


def _gathered(rows: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Rows in larger groups: what becomes columns of a file is written in many small runs."""
    held: list[NDArray[Any]] = []
    for part in rows:
        held.append(part)
        if sum(each.nbytes for each in held) >= _GATHERED_BYTES:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _upright(samples: NDArray[Any], turn: int) -> NDArray[Any]:
    """A part with the turn undone."""
    if turn in _ASIDE:
        samples = samples.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        samples = samples[::-1]
    if turn in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
