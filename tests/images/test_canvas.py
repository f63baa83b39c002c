"""A canvas is an array, whether it lies in memory or in a file."""

import errno
import os

import numpy as np
import pytest

from tests.upscale.test_upscaler import SETTINGS, Same
from tudsr.errors import ImageError
from tudsr.images import canvas
from tudsr.images.canvas import Canvas, bands
from tudsr.upscale.upscaler import Upscaler

AREAS = [
    (slice(0, 20), slice(0, 30)),
    (slice(3, 9), slice(5, 6)),
    (slice(19, 40), slice(7, None)),
    slice(4, 11),
]


@pytest.fixture(params=[0, 2**20], ids=["file", "memory"])
def where(request, monkeypatch):
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", request.param)


def test_windows_are_read_and_written_as_an_arrays(where):
    rng, held, array = np.random.default_rng(0), Canvas(20, 30), np.zeros((20, 30, 3), np.float32)
    for area in AREAS:
        values = rng.random(array[area].shape, np.float32)
        held[area] += values
        array[area] += values
        np.testing.assert_array_equal(held[area], array[area])
    np.testing.assert_array_equal(held[:], array)


def test_a_window_is_a_copy(where):
    held = Canvas(4, 4)
    held[:, :][:] = 1
    assert (held[:] == 0).all()


def test_the_same_bytes_come_out_of_memory_and_of_a_file(monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).random((36, 40, 3), dtype=np.float32)
    made = [Upscaler(Same(), SETTINGS, tmp_path).upscale(pixels, 4, fidelity=0.5)]
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", 0)
    made.append(Upscaler(Same(), SETTINGS, tmp_path).upscale(pixels, 4, fidelity=0.5))
    np.testing.assert_array_equal(*made)
    assert list(tmp_path.iterdir()) == []


def test_bands_cover_every_row_once_and_depend_on_nothing_but_the_size():
    for height, width in ((1, 1), (1000, 77), (8192, 8192), (5, 10**6)):
        rows = [row for band in bands(height, width) for row in range(band.start, band.stop)]
        assert rows == list(range(height))


def test_a_full_disk_says_how_much_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(canvas, "IN_MEMORY_BYTES", 0)
    held = Canvas(100, 100, tmp_path)

    class Full:
        seek = staticmethod(lambda at: at)

        def write(self, part):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    held._file = Full()
    with pytest.raises(ImageError, match=r"0 MB .*No space left.*TMPDIR") as caught:
        held[:] = np.zeros((100, 100, 3), np.float32)
    assert caught.value.code == "no_space"
