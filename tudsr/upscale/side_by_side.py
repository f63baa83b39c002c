"""Work on several things at once, with the results in the order of the things."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Chosen, not measured: only two cores were at hand. It bounds what tiles hold on large machines.
MOST_SIDE_BY_SIDE = 4


def in_order(work: Callable[[T], R], items: Iterable[T], count: int) -> Generator[R]:
    """``work`` of each item, ``count`` at once on threads, results in the items' order.

    Items are taken on the caller's thread, one more than are worked on, so that none waits for the
    next; results are yielded there. With a count of 1 there are no threads. What ``work`` raises is
    raised at its item's turn; whatever has begun by then is waited for, nothing else begins.
    """
    if count <= 1:
        yield from map(work, items)
        return
    ahead: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="beside")
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
