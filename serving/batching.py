"""Tiles of several pictures go through the model together; whole pictures never wait for others.

A thread takes the tile that is due first and, up to ``batch_px``, others of the same model, stage
and shape. It waits for none: batches form from what has gathered while those before were computed.
As many threads do so at once as the model takes tiles side by side.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.metrics import metrics
from serving.scheduler import Speed
from serving.ticket import Ticket
from tudsr.model.opening import on_cpu
from tudsr.upscale.runtime import TileRuntime
from tudsr.upscale.side_by_side import MOST_SIDE_BY_SIDE

Tile = NDArray[np.float32]
_GPU_BATCH_PX, _CPU_BATCH_PX = 4 * 512**2, 256**2


@dataclass(frozen=True, eq=False)
class _Request:
    """A tile that waits."""

    runtime: TileRuntime
    image: Tile
    stage: int
    full_precision: bool
    ticket: Ticket
    beside: bool = False
    result: Future[Tile] = field(default_factory=Future[Tile])

    def joins(self, other: _Request) -> bool:
        """Whether both can go through the model at once."""
        return self.runtime is other.runtime and self._kind == other._kind

    @property
    def _kind(self) -> tuple[object, ...]:
        return self.stage, self.full_precision, self.image.shape


class TileQueue:
    """The threads that use the model.

    Args:
        batch_px: most pixels that go through together; one tile goes whatever its size.
        speed: learns how long a pixel takes.
    """

    def __init__(self, batch_px: int, speed: Speed) -> None:
        self.batch_px, self.speed = batch_px, speed
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._busy, self._counted = 0, 0.0
        for k in range(MOST_SIDE_BY_SIDE):
            threading.Thread(target=self._work, name=f"tiles-{k}", daemon=True).start()

    def restore(
        self,
        runtime: TileRuntime,
        image: Tile,
        stage: int,
        ticket: Ticket,
        full_precision: bool = False,
        beside: bool = False,
    ) -> Tile:
        """Wait for a tile's turn and for its result; ``beside``: more of its picture will come.

        Raises:
            Refusal: its picture was stopped.
        """
        ticket.check()
        request = _Request(runtime, image, stage, full_precision, ticket, beside)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        restored = request.result.result()
        ticket.check()
        return restored

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._may_begin():
                    self._changed.wait()
                batch = self._take()
                alone = not (self._busy or self._waiting or batch[0].beside)
                if not self._busy:
                    self._counted = time.monotonic()
                self._busy += 1
            self._compute(batch, alone)

    def _may_begin(self) -> bool:
        """Whether a tile waits for which there is room; those of stopped pictures wait no more."""
        for request in [r for r in self._waiting if r.ticket.stopped]:
            self._waiting.remove(request)
            request.result.set_exception(request.ticket.reason)
        return bool(self._waiting) and self._busy < self._first.runtime.side_by_side

    @property
    def _first(self) -> _Request:
        return min(self._waiting, key=lambda r: r.ticket.due)

    def _take(self) -> list[_Request]:
        first = self._first
        px = first.image.shape[0] * first.image.shape[1]
        alike = sorted((r for r in self._waiting if r.joins(first)), key=lambda r: r.ticket.due)
        batch = alike[: max(1, self.batch_px // px)]
        self._waiting = [r for r in self._waiting if r not in batch]
        return batch

    def _compute(self, batch: list[_Request], alone: bool) -> None:
        """A batch that is alone has the whole processor."""
        first, px = batch[0], 0
        try:
            runtime = first.runtime if alone else first.runtime.beside
            images = [request.image for request in batch]
            restored = runtime.restore_batch(images, first.stage, first.full_precision)
        except Exception as error:  # each picture gets it; the thread lives on
            for request in batch:
                request.result.set_exception(error)
        else:
            for request, tile in zip(batch, restored, strict=True):
                request.result.set_result(tile)
            px = sum(image.shape[0] * image.shape[1] for image in images)
            metrics().tiles.labels(str(first.stage)).inc(len(batch))
            metrics().batch_tiles.observe(len(batch))
        self._done(px)

    def _done(self, px: int) -> None:
        """Time in which several batches were computed counts once."""
        with self._changed:
            now = time.monotonic()
            if px:
                self.speed.measured(px, now - self._counted)
            self._counted = now
            self._busy -= 1
            self._changed.notify_all()


class SharedRuntime:
    """One picture's view of the model: a `TileRuntime` whose tiles queue with those of others."""

    def __init__(
        self, queue: TileQueue, runtime: TileRuntime, ticket: Ticket, several: bool = False
    ) -> None:
        self.queue, self.runtime, self.ticket, self._several = queue, runtime, ticket, several
        self.size_multiple, self.side_by_side = runtime.size_multiple, runtime.side_by_side

    @property
    def beside(self) -> SharedRuntime:
        """For a picture of several tiles."""
        return SharedRuntime(self.queue, self.runtime, self.ticket, several=True)

    def restore(self, image: Tile, stage: int, full_precision: bool = False) -> Tile:
        """As the runtime itself; raises a `Refusal` when the picture is to stop."""
        return self.queue.restore(
            self.runtime, image, stage, self.ticket, full_precision, self._several
        )

    def restore_batch(
        self, images: Sequence[Tile], stage: int, full_precision: bool = False
    ) -> list[Tile]:
        """One after the other: a picture takes its turns like any other."""
        return [self.restore(image, stage, full_precision) for image in images]


def default_batch_px(device: str) -> int:
    """Most pixels that go through together, where no setting says so."""
    return _CPU_BATCH_PX if on_cpu(device) else _GPU_BATCH_PX
