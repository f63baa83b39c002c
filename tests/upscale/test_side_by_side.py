"""Tiles side by side: in order, no more than allowed, and the same bytes as one after the other."""

import threading
import time

import numpy as np
import pytest

from tests.conftest import scene
from tudsr.errors import ModelError
from tudsr.images.canvas import Canvas
from tudsr.profile import UpscaleSettings
from tudsr.upscale.side_by_side import in_order
from tudsr.upscale.upscaler import Upscaler

SETTINGS = UpscaleSettings(tile_px=64, overlap_px=16)


class Counts:
    """Work of an uneven length, which notes how much of it goes on at once."""

    def __init__(self):
        self.at_once, self.most, self.begun, self._lock = 0, 0, 0, threading.Lock()

    def __call__(self, item):
        with self._lock:
            self.at_once += 1
            self.begun += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.02 if item % 3 == 0 else 0.002)
        with self._lock:
            self.at_once -= 1
        return 10 * item


@pytest.mark.parametrize("count", [1, 2, 4])
def test_results_come_in_order_and_no_more_than_count_are_worked_on(count):
    work = Counts()
    assert list(in_order(work, range(20), count)) == [10 * k for k in range(20)]
    assert work.most == count


def test_items_are_taken_as_they_are_needed():
    """A large picture's tiles are not all held at once."""
    taken = []
    results = in_order(Counts(), (taken.append(k) or k for k in range(100)), 2)
    next(results)
    assert len(taken) == 3
    results.close()
    assert len(taken) == 3


def test_an_error_comes_at_its_turn_and_nothing_begins_after_it():
    work = Counts()

    def broken(item):
        if item == 5:
            raise ValueError("five")
        return work(item)

    results, got = in_order(broken, range(100), 2), []
    with pytest.raises(ValueError, match="five"):
        got.extend(results)
    assert got == [0, 10, 20, 30, 40] and work.begun <= 8 and work.at_once == 0


class Darkens:
    """The later a tile comes the sooner it is done; stage 2 may fail."""

    size_multiple = 16

    def __init__(self, side_by_side, broken=False):
        self.side_by_side, self.broken = side_by_side, broken
        self.threads, self._count = set(), 0

    @property
    def beside(self):
        return self

    def restore(self, image, stage, full_precision=False):
        self.threads.add(threading.current_thread().name)
        self._count += 1
        time.sleep(0.003 * (3 - self._count % 4))
        if self.broken and stage == 2 and image.mean() < 0.5 and not full_precision:
            return np.full_like(image, np.nan)
        return np.sqrt(image) * np.float32(1 - 0.01 * stage)


def test_the_picture_is_the_same_to_the_byte(monkeypatch):
    """Canvases in files, as of a large picture, too: their place in the file is one for all."""
    monkeypatch.setattr("tudsr.images.canvas.IN_MEMORY_BYTES", 0)
    pixels = scene(3, 40).astype("f") / 255
    alone, together = Darkens(1), Darkens(3)
    expected = Upscaler(alone, SETTINGS).upscale(pixels, 8)
    assert alone.threads == {"MainThread"}
    for _ in range(3):
        np.testing.assert_array_equal(Upscaler(together, SETTINGS).upscale(pixels, 8), expected)
    assert len(together.threads) == 3 and "MainThread" not in together.threads


def test_whoever_asked_is_told_on_their_own_thread():
    pixels, told, here = scene(3, 40).astype("f") / 255, [], threading.get_ident()
    runtime = Darkens(3, broken=True)

    def note(sentence):
        told.append((threading.get_ident(), sentence))

    def progress(done, total):
        told.append((threading.get_ident(), (done, total)))

    Upscaler(runtime, SETTINGS).upscale(pixels, 8, note=note, progress=progress)
    assert {thread for thread, _ in told} == {here}
    sentences = {what for _, what in told if isinstance(what, str)}
    assert sentences == {"a tile of stage 2 was not finite and was made again in fp32"}
    # Said again between parts of the correction: nothing is new then.
    steps = list(dict.fromkeys(what for _, what in told if not isinstance(what, str)))
    assert steps == [(k + 1, len(steps)) for k in range(len(steps))]


def test_a_model_that_fails_ends_the_picture_and_leaves_no_thread():
    class Nan(Darkens):
        def restore(self, image, stage, full_precision=False):
            return np.full_like(image, np.nan)

    before = threading.active_count()
    with pytest.raises(ModelError, match="not finite"):
        Upscaler(Nan(3), SETTINGS).upscale(np.full((40, 40, 3), 0.5, "f"), 8)
    assert threading.active_count() == before


def test_threads_may_read_and_write_a_canvas(monkeypatch):
    monkeypatch.setattr("tudsr.images.canvas.IN_MEMORY_BYTES", 0)
    canvas = Canvas(256, 64)

    def fill(k):
        rows = slice(8 * k, 8 * k + 8)
        for _ in range(20):
            canvas[rows] = np.full((8, 64, 3), k, "f")
            assert (canvas[rows, 3:9] == k).all()
        return k

    assert list(in_order(fill, range(32), 4)) == list(range(32))
    assert (canvas[:][:, 0, 0] == np.repeat(np.arange(32), 8)).all()
