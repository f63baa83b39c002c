"""What this process may take of the machine: its cores, and how it holds memory."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def usable_cores() -> int:
    """Cores that this process may run on; all of the machine's where a system does not say."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks instead of handing them back to the kernel.

    Training frees and takes the same tens of megabytes thousands of times; the page faults cost a
    third of the perceptual losses' time (docs/log.md). Elsewhere than on Linux nothing is done.
    """
    _mallopt(_MMAP_THRESHOLD, 2**31 - 1)
    _mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def share_one_heap() -> None:
    """Tell glibc not to give threads that come a heap of their own, each with gaps of its own.

    Threads that enlarge tiles take and free megabytes: a large picture then held 8 % more than a
    small one (docs/log.md). For the start of a program: heaps that are there stay. Elsewhere than
    on Linux nothing is done.
    """
    _mallopt(_ARENA_MAX, 1)


def _mallopt(parameter: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library, such as musl
        return
    libc.mallopt(parameter, value)
