"""Stopped within a second, whatever is at hand; only requests to stop end a process by force."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.upscale.test_files import SETTINGS, Same, run
from tudsr.upscale.commands import _clean_up_of
from tudsr.upscale.manifest import NAME
from tudsr.upscale.stopping import Stopped, stoppable
from tudsr.upscale.upscaler import Upscaler

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


def test_a_signal_that_a_library_makes_an_error_of_its_own_from_is_still_a_request_to_stop():
    """As importing OpenVINO's extension does."""
    with pytest.raises(Stopped) as caught, stoppable(lambda: None):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except BaseException:
            raise ImportError("initialization failed") from None
    assert caught.value.code == 143
    with pytest.raises(ImportError), stoppable(lambda: None):
        raise ImportError


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


_SLOW = """
import sys, time
from pathlib import Path
from tests.upscale.test_files import Chosen, Same
from tudsr.upscale import commands
from tudsr.upscale.upscaler import Upscaler
import hashlib

begun, where, quick = Path(sys.argv[1]), *sys.argv[2:4]

class Slow(Same):
    tiles = 0

    def restore(self, image, stage, full_precision=False):
        Slow.tiles += 1
        if Slow.tiles <= int(quick): return image
        begun.touch()
        # One step of C that no handler of Python's interrupts, as a long tile may be.
        if where == "c": hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        while True: time.sleep(0.01)

class SlowChosen(Chosen):
    def upscaler(self):
        from tests.upscale.test_files import SETTINGS
        return Upscaler(Slow(), SETTINGS)

commands.ChosenModel = SlowChosen
from tudsr.cli import main
sys.argv = ["tudsr", "upscale", *sys.argv[4:]]
main()
"""


def stopped(folder, out, begun, where, quick, number):
    """Exit code, stderr and seconds from signal to end of a run stopped in a tile.

    ``where`` is ``c`` or ``python``, ``quick`` the number of tiles before.
    """
    command = [sys.executable, "-c", _SLOW, str(begun), where, str(quick), str(folder), str(out)]
    process = subprocess.Popen(
        [*command, "--scale", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert begun.exists(), process.communicate(timeout=30)
    sent = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said, time.monotonic() - sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["python", "c"])
def test_a_signal_ends_it_within_a_second_in_the_middle_of_a_tile(folder, tmp_path, number, where):
    out = tmp_path / "out"
    code, said, seconds = stopped(folder, out, tmp_path / "begun", where, 0, number)
    assert code == 128 + number, said
    assert seconds < 1.0
    assert "run it again to go on" in said
    assert "Traceback" not in said
    assert [p for p in out.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("where", ["python", "c"])
def test_a_folder_stopped_and_gone_on_with_has_the_bytes_of_one_left_alone(folder, tmp_path, where):
    out, tiles = tmp_path / "out", Upscaler(Same(), SETTINGS).count_tiles(48, 48, 2)
    begun = tmp_path / "begun"
    code, said, _ = stopped(folder, out, begun, where, tiles + 1, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, said
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["a.png", NAME]
    assert [o.skipped for o in run(folder, out)] == [True, False, False, False]
    run(folder, tmp_path / "alone")
    assert contents(out) == contents(tmp_path / "alone")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which has times."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != NAME]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def test_what_an_encoder_that_was_cut_off_has_left_goes_and_nothing_else(tmp_path):
    begun = f".large[1].{'0' * 32}.webp"
    others = (f".small.{'0' * 32}.webp", "large[1].webp", ".large[1].notes")
    for name in (begun, *others):
        (tmp_path / name).touch()
    _clean_up_of(tmp_path / "large[1].webp")()
    assert {p.name for p in tmp_path.iterdir()} == set(others)
