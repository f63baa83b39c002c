"""Signals that ask training to stop: the step is finished first, then saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, the first SIGTERM or SIGINT is only noted; a second one ends the process.

    Signals reach the main thread alone, so elsewhere nothing is installed and ``received`` stays
    false. What was installed before comes back on leaving.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._before.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        """Note it and leave the next one to the system, which ends even a process that hangs."""
        self.received = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if os.environ.get("RANK", "0") == "0":
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: finishing this step, then saving\n".encode())


def ignore_stop_signals(_worker: int) -> None:
    """For data workers: launchers and terminals signal the whole group, but training decides."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
