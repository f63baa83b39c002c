"""Stopping within a second, in the middle of a long tile too.

Python runs a signal's handler between two of its own steps, and a tile of a large model may be one
step of seconds. So a thread is woken by the signal itself (`signal.set_wakeup_fd`) and ends the
process if it has not ended by then. Nothing is lost: a result gets its name when it is whole, and
intermediate results lie in files without names.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 0.6
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """SIGINT or SIGTERM was received; ``code`` is the shell's exit code for it (128 + number)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def stoppable(clean_up: Callable[[], None]) -> Generator[None]:
    """While entered, SIGINT and SIGTERM raise `Stopped`; after `GRACE_S` the process just ends.

    Args:
        clean_up: removes half-written files; called where the process is ended by force.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    done, asked = threading.Event(), list[int]()

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # one is enough
        asked.append(number)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    descriptor = signal.set_wakeup_fd(waking.fileno())
    threading.Thread(target=_end_late, args=(woken, done, clean_up), daemon=True).start()
    try:
        yield
    except Exception:
        if asked:  # a C extension that was just being imported made an ImportError of it
            raise Stopped(asked[0]) from None
        raise
    finally:
        done.set()
        signal.set_wakeup_fd(descriptor)
        waking.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_late(woken: socket.socket, done: threading.Event, clean_up: Callable[[], None]) -> None:
    with woken:
        received = woken.recv(1)
        while received and received[0] not in _SIGNALS:  # such as SIGCHLD: a wake-up, no request
            received = woken.recv(1)
    if not received or done.wait(GRACE_S):
        return
    clean_up()
    sys.stderr.write("\nstopped in the middle of a tile; run it again to go on\n")
    sys.stderr.flush()
    os._exit(128 + received[0])
