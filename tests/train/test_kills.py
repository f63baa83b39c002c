"""Trainings killed and told to stop at random moments, some dozens; the benchmark does 200."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS, TERMS = 30, 4


@pytest.fixture(scope="module")
def tally(tmp_path_factory) -> dict:
    """What benchmarks/kills.py saw, in a process of its own that forks the trainings."""
    told = tmp_path_factory.mktemp("kills") / "kills.json"
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", str(KILLS)]
    done = subprocess.run(
        [*command, "--terms", str(TERMS), "--json", str(told)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(told.read_text("utf-8"))


def test_no_kill_leaves_a_checkpoint_that_cannot_be_loaded(tally):
    assert tally["kills"] == KILLS and tally["moments"]["in training"] > KILLS // 4
    assert tally["unloadable"] == 0


def test_a_kill_costs_at_most_one_checkpoint_interval(tally):
    assert 0 < tally["largest_loss_images"] <= tally["interval_images"]


def test_killed_runs_end_with_the_bytes_figures_and_data_order_of_one_left_alone(tally):
    assert tally["finished"] > 1
    assert tally["different"] == []


def test_sigterm_saves_and_ends_with_75(tally):
    codes = tally["terminated"]
    assert sum(codes.values()) == TERMS and codes.get("75", 0) > 0
    # A run may have come to its end before the signal, or be writing its result as it comes.
    assert set(codes) <= {"75", "0", str(-signal.SIGTERM)}
