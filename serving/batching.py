"""Tiles of several pictures go through the model together; whole pictures never wait for others.

Each picture has at most one tile here at a time. One thread takes the tile that is due first and,
up to ``batch_px``, others of the same model, stage and shape. It waits for none: batches form from
what has gathered while the one before was computed.
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
from tudsr.upscale.upscaler import TileRuntime

Tile = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Request:
    """A tile that waits."""

    runtime: TileRuntime
    image: Tile
    stage: int
    full_precision: bool
    ticket: Ticket
    result: Future[Tile] = field(default_factory=Future[Tile])

    def joins(self, other: _Request) -> bool:
        """Whether both can go through the model at once."""
        return self.runtime is other.runtime and self._kind == other._kind

    @property
    def _kind(self) -> tuple[object, ...]:
        return self.stage, self.full_precision, self.image.shape


class TileQueue:
    """The one thread that uses the model.

    Args:
        batch_px: most pixels that go through together; one tile goes whatever its size.
        speed: learns how long a pixel takes.
    """

    def __init__(self, batch_px: int, speed: Speed) -> None:
        self.batch_px, self.speed = batch_px, speed
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        threading.Thread(target=self._work, name="tiles", daemon=True).start()

    def restore(
        self,
        runtime: TileRuntime,
        image: Tile,
        stage: int,
        ticket: Ticket,
        full_precision: bool = False,
    ) -> Tile:
        """Wait for a tile's turn and for its result.

        Raises:
            Refusal: its picture was stopped.
        """
        ticket.check()
        request = _Request(runtime, image, stage, full_precision, ticket)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        restored = request.result.result()
        ticket.check()
        return restored

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                batch = self._take()
            self._compute(batch)

    def _take(self) -> list[_Request]:
        first = min(self._waiting, key=lambda r: r.ticket.due)
        px = first.image.shape[0] * first.image.shape[1]
        alike = sorted((r for r in self._waiting if r.joins(first)), key=lambda r: r.ticket.due)
        batch = alike[: max(1, self.batch_px // px)]
        self._waiting = [r for r in self._waiting if r not in batch]
        return batch

    def _compute(self, batch: list[_Request]) -> None:
        first, start = batch[0], time.monotonic()
        try:
            images = [request.image for request in batch]
            restored = first.runtime.restore_batch(images, first.stage, first.full_precision)
        except Exception as error:  # each picture gets it; the thread lives on
            for request in batch:
                request.result.set_exception(error)
            return
        for request, tile in zip(batch, restored, strict=True):
            request.result.set_result(tile)
        px = sum(r.image.shape[0] * r.image.shape[1] for r in batch)
        self.speed.measured(px, time.monotonic() - start)
        metrics().tiles.labels(str(first.stage)).inc(len(batch))
        metrics().batch_tiles.observe(len(batch))


class SharedRuntime:
    """One picture's view of the model: a `TileRuntime` whose tiles queue with those of others."""

    def __init__(self, queue: TileQueue, runtime: TileRuntime, ticket: Ticket) -> None:
        self.queue, self.runtime, self.ticket = queue, runtime, ticket
        self.size_multiple = runtime.size_multiple

    def restore(self, image: Tile, stage: int, full_precision: bool = False) -> Tile:
        """As the runtime itself; raises a `Refusal` when the picture is to stop."""
        return self.queue.restore(self.runtime, image, stage, self.ticket, full_precision)

    def restore_batch(
        self, images: Sequence[Tile], stage: int, full_precision: bool = False
    ) -> list[Tile]:
        """One after the other: a picture takes its turns like any other."""
        return [self.restore(image, stage, full_precision) for image in images]
