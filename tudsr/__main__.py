"""``tudsr`` and ``python -m tudsr``: the command, which Ctrl-C ends quietly from the start."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Load the command line, which takes a quarter of a second, and run it.

    SIGINT meanwhile ends with 130 and no traceback, as it does later.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell's background job ignores it, and shall
        signal.signal(signal.SIGINT, _end)
    from tudsr.cli import main as command

    signal.signal(signal.SIGINT, before)
    command()


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
