"""How many processor cores there are to use."""

from __future__ import annotations

import os
import sys


def usable_cores() -> int:
    """Cores that this process may run on; all of the machine's where a system does not say."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
