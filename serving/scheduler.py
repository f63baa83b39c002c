"""Who is let in, and who is next.

Every picture gets a due time: its arrival plus a multiple of the time it needs by itself. The
earliest is worked on first, tile by tile, so a small picture overtakes a huge one that came before
it, and the huge one is never overtaken for longer than its own multiple allows. Small pictures
count as equally long: among themselves they go in the order of arrival, which keeps their longest
waits short.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from bisect import insort
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from serving.metrics import metrics, size_class
from serving.refusal import Refusal, refusal_of
from serving.settings import ServeSettings
from serving.ticket import Cost, Ticket

# How many times its own duration a picture's due time lies after its arrival. With 0 the order is
# that of arrival; the larger, the more small pictures are favoured.
_PATIENCE, _JOB_PATIENCE = 4, 20
# How much a batch counts when one more has followed.
_MEMORY = 0.9
_FIRST_GUESS = 1e-6
_LOG = logging.getLogger("tudsr.serving")


class Speed:
    """Seconds that the model needs for a pixel, as measured lately.

    The latest batches' seconds over their pixels, so that a large tile counts for more than a small
    one, of which every pixel takes longer.
    """

    def __init__(self) -> None:
        self._seen = 0.0, 0.0

    @property
    def s_per_px(self) -> float:
        """A guess before the first batch."""
        px, seconds = self._seen  # both at once: another thread may measure meanwhile
        return seconds / px if px else _FIRST_GUESS

    def measured(self, px: int, seconds: float) -> None:
        """Take a batch of tiles into account."""
        all_px, all_seconds = self._seen
        self._seen = _MEMORY * all_px + px, _MEMORY * all_seconds + seconds

    def starts_anew(self) -> None:
        """Forget what was measured: compiling is over, or the model is another one."""
        self._seen = 0.0, 0.0


@dataclass(frozen=True, order=True)
class _Entry:
    """A picture that waits for a slot; the order is that of due times, then of arrival."""

    due: float
    number: int
    ticket: Ticket = field(compare=False)
    future: Future[Any] = field(compare=False)
    work: Callable[[Ticket], Any] = field(compare=False)
    limit_s: float = field(compare=False)

    def run(self) -> None:
        """Work, so that the result or the error lands in the future."""
        try:
            self.ticket.check()
            result = self.work(self.ticket)
        except Exception as error:  # every error is the requester's answer, none ends the thread
            known = refusal_of(error)
            if known.is_fault:
                _LOG.error("a picture failed", exc_info=error)
            self.future.set_exception(known)
        else:
            self.future.set_result(result)


class Scheduler:
    """Runs pictures on a few threads, the earliest due first.

    A thread reads, enlarges and encodes one picture; their tiles meet in the `TileQueue`.
    """

    def __init__(self, settings: ServeSettings, speed: Speed) -> None:
        self.settings, self.speed = settings, speed
        self.draining = False
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._running: set[Ticket] = set()
        self._count = 0
        for k in range(settings.slots):
            threading.Thread(target=self._work, name=f"picture-{k}", daemon=True).start()

    def submit(
        self, cost: Cost, work: Callable[[Ticket], Any], deadline_s: float, job: bool = False
    ) -> tuple[Ticket, Future[Any]]:
        """Let a picture in; ``work`` is called on one of the threads when its turn comes.

        Args:
            cost: what it will take.
            work: makes the result.
            deadline_s: from now; of a job, from when work on it begins.
            job: whether nobody waits on the line.

        Raises:
            Refusal: ``draining``, or ``queue_full`` with the seconds until there is room. Jobs are
                never refused for the work before them: they can wait.
        """
        now = time.monotonic()
        due = self._due(now, cost.px, _JOB_PATIENCE if job else _PATIENCE)
        expires = math.inf if job else now + deadline_s
        ticket, future = Ticket(cost, due, expires, job), Future[Any]()
        with self._changed:
            if self.draining:
                raise stopping()
            if not job:
                self._check_wait(due)
            self._count += 1
            entry = _Entry(due, self._count, ticket, future, work, deadline_s)
            insort(self._waiting, entry)
            self._changed.notify_all()
        self.show_queue()
        return ticket, future

    def check_room(self) -> None:
        """Whether even the smallest picture would wait too long: told before its body is read.

        Raises:
            Refusal: as `submit` would.
        """
        with self._changed:
            if self.draining:
                raise stopping()
            self._check_wait(self._due(time.monotonic(), 0, _PATIENCE))

    def wait_s(self, due: float) -> float:
        """Seconds of work before a picture that is due then."""
        return sum(t.left_px for t in self._tickets() if t.due <= due) * self.speed.s_per_px

    def show_queue(self) -> None:
        """Tell Prometheus how many tiles are to be made."""
        with self._changed:
            tiles = sum(t.left_tiles for t in self._tickets())
        metrics().queue_tiles.set(tiles)

    def drain(self, grace_s: float, then: Callable[[], None] = lambda: None) -> None:
        """Let nobody in from now on; what is not done after the grace time is refused.

        Jobs that have not begun are refused at once: their record stays and they run after the next
        start. Safe in a signal handler: the waiting is done on a thread.

        Args:
            grace_s: how long what was let in may take, seconds.
            then: called once nothing is left to do, or the grace time is over; only the first
                call of `drain` counts.
        """
        if not self.draining:
            self.draining = True
            threading.Thread(target=self._drain, args=(grace_s, then), daemon=True).start()

    def _drain(self, grace_s: float, then: Callable[[], None]) -> None:
        end = time.monotonic() + grace_s
        with self._changed:
            self._refuse([e for e in self._waiting if e.ticket.job])
            while self._tickets() and (left_s := end - time.monotonic()) > 0:
                self._changed.wait(min(left_s, 1))
            self._refuse(self._waiting)
            for ticket in self._running:
                ticket.stop(stopping())
        then()

    def _refuse(self, entries: list[_Entry]) -> None:
        self._waiting = [e for e in self._waiting if e not in entries]
        for entry in entries:
            entry.ticket.stop(stopping())
            entry.future.set_exception(stopping())

    def _tickets(self) -> list[Ticket]:
        return [e.ticket for e in self._waiting] + list(self._running)

    def _due(self, now: float, px: int, patience: int) -> float:
        return now + patience * max(px, self.settings.small_px) * self.speed.s_per_px

    def _check_wait(self, due: float) -> None:
        limit, wait = self.settings.max_wait_s, self.wait_s(due)
        if wait > limit:
            raise Refusal(
                "queue_full",
                f"{wait:.0f} s of work are before this picture, over the limit of {limit:g} s: "
                f"ask again in {max(1, wait - limit):.0f} s",
                retry_after_s=wait - limit,
            )

    def _work(self) -> None:
        """A thread's life."""
        while True:
            with self._changed:
                while (index := self._next()) is None:
                    self._changed.wait(timeout=1)
                entry = self._waiting.pop(index)
                entry.ticket.begin(entry.limit_s)
                _waited(entry.ticket)
                self._running.add(entry.ticket)
            entry.run()
            with self._changed:
                self._running.discard(entry.ticket)
                self._changed.notify_all()
            self.show_queue()

    def _next(self) -> int | None:
        """The earliest due for which there is room.

        Small pictures may use every slot; the others leave one to them, jobs half of them, and the
        results being made stay within ``active_px``. A large one that waits for room is not
        overtaken by other large ones.
        """
        for given_up in [e for e in self._waiting if e.ticket.stopped]:
            _waited(given_up.ticket)
            self._waiting.remove(given_up)
        blocked = False
        for index, ticket in enumerate(e.ticket for e in self._waiting):
            if self._is_small(ticket) and not ticket.job:
                return index
            if not blocked and self._has_room(ticket):
                return index
            blocked = blocked or not ticket.job
        return None

    def _has_room(self, ticket: Ticket) -> bool:
        slots = self.settings.slots
        large = [t for t in self._running if t.job or not self._is_small(t)]
        if len(large) >= slots - 1:
            return False
        if ticket.job and sum(t.job for t in large) >= slots // 2:
            return False
        active_px = sum(t.cost.result_px for t in large)
        return not large or active_px + ticket.cost.result_px <= self.settings.active_px

    def _is_small(self, ticket: Ticket) -> bool:
        return ticket.cost.px <= self.settings.small_px


def _waited(ticket: Ticket) -> None:
    """Tell Prometheus how long a picture waited for its turn, or until it was given up."""
    size = size_class(ticket.cost.result_px)
    metrics().queue_seconds.labels(size).observe(ticket.waited_s)


def stopping() -> Refusal:
    """What is answered while the service is being stopped."""
    return Refusal(
        "draining", "the service is being stopped: ask again in a few seconds", retry_after_s=5
    )
