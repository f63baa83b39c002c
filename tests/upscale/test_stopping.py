"""Only requests to stop end a process by force."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

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


INTERRUPTED = """
import os, signal, sys

when, sys.argv = sys.argv[1], ["tudsr", "upscale", *sys.argv[2:]]

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == when:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from tudsr.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "when", ["typer", "tudsr.train.commands", "serving.commands", "tudsr.upscale.files"]
)
def test_ctrl_c_while_it_loads_ends_quietly(tmp_path, when):
    """The signal comes as a module is imported, from the first of the command's on."""
    command = [sys.executable, "-c", INTERRUPTED, when, "no-such-picture.png", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (130, "")
