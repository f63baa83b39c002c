"""A dozen of the kills of benchmarks/folder_kills.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12


def test_a_folder_killed_at_random_moments_ends_as_one_left_alone(tmp_path):
    told = tmp_path / "kills.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.folder_kills", "--kills", str(KILLS), "--json", told],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    tally = json.loads(told.read_text("utf-8"))
    assert tally["kills"] == KILLS and tally["finished"] > 1
    assert (tally["unloadable"], tally["different"]) == (0, [])
