"""Answering comes before computing: a refusal must not wait for the model to leave it a core."""

from __future__ import annotations

import os
import sys
import threading

# Five steps of nice are a third of the share, where both want a core.
_NICE = 5


def compute_behind_answers() -> None:
    """Let the calling thread, and those it starts (OpenVINO's, torch's), stand back.

    Where no answer waits they have the cores to themselves. On Linux alone a thread has a nice
    value of its own.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
