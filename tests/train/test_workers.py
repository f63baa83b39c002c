"""Errors of the processes that make samples: one sentence each, as without such processes."""

import subprocess
import sys

import pytest
from torch.utils.data import get_worker_info

from benchmarks.forked import write_photographs
from tests.train.test_distributed import environment
from tudsr.errors import TrainingError
from tudsr.profile import load_profile
from tudsr.train.pairs import TrainingPairs
from tudsr.train.ranks import _exchange
from tudsr.train.stages import train_stage1
from tudsr.train.workers import telling_workers_errors

SMOKE = load_profile("smoke")
CHILD = """
import os, sys
from pathlib import Path
from tudsr.cli import main
from tudsr.errors import DataError, ImageError
from tudsr.train.pairs import TrainingPairs
make = TrainingPairs.__getitem__
def failing(self, index):
    if index < 8:
        return make(self, index)
    {fault}
TrainingPairs.__getitem__ = failing
sys.argv = ["tudsr", "train", "stage1", "--profile", "smoke", "--out", "out", "--work", "work"]
main()
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise DataError('3 of 4 pictures are bad: mend them')", "error: 3 of 4 pictures are bad"),
        ("raise ImageError('truncated', 'a.png is cut off')", "error: a.png is cut off"),
        ("open('/nowhere/a.tar')", "No such file or directory: '/nowhere/a.tar'"),
        ("os.kill(os.getpid(), 9)", "runtime.data_workers"),
    ],
)
def test_on_the_command_line_it_is_one_sentence(tmp_path, fault, words):

    write_photographs(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(fault=fault)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_mistake_of_the_program_keeps_its_traceback(photos, tmp_path, monkeypatch):
    make = TrainingPairs.__getitem__

    def mistaken(self, index):
        return make(self, index) if get_worker_info() is None else {}["hr"]

    monkeypatch.setattr(TrainingPairs, "__getitem__", mistaken)
    with pytest.raises(KeyError, match="Original Traceback"):
        train_stage1(SMOKE, photos, tmp_path / "out", tmp_path / "work")


def test_no_shared_memory_is_told_of():
    said = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\nRuntimeError: "
    )
    said += "unable to write to file </torch_930_12_0>: No space left on device (28)"
    remedy = pytest.raises(TrainingError, match=r"/dev/shm.*lower runtime.data_workers")
    with remedy, telling_workers_errors("stage 1"):
        raise RuntimeError(said)


def test_a_lost_worker_is_no_dead_rank():
    """Torch raises in the main process wherever it is, in an exchange with other ranks too."""

    def interrupted():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    lost = pytest.raises(TrainingError, match="stage 1: a process that makes training samples")
    with lost, telling_workers_errors("stage 1"):
        _exchange(interrupted)
