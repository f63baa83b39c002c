"""Only requests to stop end a process by force."""

import subprocess
import sys

PROGRAM = """
import os, signal, time
from tudsr.upscale.stopping import GRACE_S, stoppable

signal.signal(signal.SIGUSR1, lambda *_: None)
with stoppable(lambda: print("cleaned up", flush=True)):
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(GRACE_S + 0.5)
print("went on")
"""


def test_another_signal_is_no_request_to_stop():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
