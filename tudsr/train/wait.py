"""How long training waits for its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class DataWait(Generic[Batch]):
    """Batches, with the time that passed between asking for one and having it.

    The first batch is counted apart: it holds the start of the workers. On a GPU the share is an
    upper bound of its idle time, since work queued before goes on while the next batch is awaited.
    ``told`` gives the data set's own figures, which are added to these.
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        told: Callable[[], dict[str, float]] = dict,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.batches, self.told, self.clock = batches, told, clock
        self.start_s = 0.0
        self.waited_s = 0.0
        self._first_at: float | None = None

    def __iter__(self) -> Iterator[Batch]:
        asked = self.clock()
        for batch in self.batches:
            now = self.clock()
            if self._first_at is None:
                self.start_s, self._first_at = now - asked, now
            else:
                self.waited_s += now - asked
            yield batch
            asked = self.clock()

    def figures(self) -> dict[str, float]:
        """``data_wait``: share of the time since the first batch, 0..1; ``data_start_s``; told."""
        if self._first_at is None:
            return {}
        elapsed = self.clock() - self._first_at
        share = self.waited_s / elapsed if elapsed > 0 else 0.0
        return {"data_wait": share, "data_start_s": self.start_s, **self.told()}
