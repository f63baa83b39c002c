"""The CPU form, asked by several threads at once."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import scene
from tudsr.machine import usable_cores
from tudsr.model import cpu_runtime
from tudsr.model.cpu_export import make_form
from tudsr.model.opening import open_runtime


@pytest.fixture(scope="module")
def form(bundle):
    return make_form(bundle)


TILES = [scene(seed, 96).astype("f") / 255 for seed in range(12)]


def test_beside_others_a_tile_is_what_it_is_alone(bundle, form):
    ours = open_runtime(bundle, "cpu", "fp32", side_by_side=2)
    assert ours.side_by_side == min(2, usable_cores())
    work = [(tile, 1 + k % 2) for k, tile in enumerate(TILES)]
    alone = [ours.beside.restore(*one) for one in work]
    with ThreadPoolExecutor(4) as pool:  # more than it has room for: they take turns
        for _ in range(3):
            made = pool.map(lambda one: ours.beside.restore(*one), work)
            for got, expected in zip(made, alone, strict=True):
                np.testing.assert_array_equal(got, expected)
    whole = [ours.restore(*one) for one in work]
    np.testing.assert_allclose(whole, alone, atol=1e-5)  # other sums, the same to rounding


def test_one_at_a_time_is_the_runtime_itself(bundle, form):
    ours = open_runtime(bundle, "cpu", "fp32", side_by_side=1)
    assert ours.side_by_side == 1
    np.testing.assert_array_equal(ours.beside.restore(TILES[0], 1), ours.restore(TILES[0], 1))


def test_a_first_run_keeps_nobody_waiting_whose_graph_has_run(bundle, form):
    """Such as an endpoint's pictures while the next champion is compiled."""
    ours, got = open_runtime(bundle, "cpu", "fp32"), []
    ours.restore(TILES[0], 1)
    with cpu_runtime._FIRST:
        asked = threading.Thread(target=lambda: got.append(ours.restore(TILES[1], 1)), daemon=True)
        asked.start()
        asked.join(60)
    assert len(got) == 1


_FIRST_RUNS = """
import sys, threading
from pathlib import Path
import numpy as np
from tudsr.model.cpu_runtime import CpuRuntime
from tudsr.release.bundle import load_bundle
ours = CpuRuntime(Path(sys.argv[1]), load_bundle(Path(sys.argv[2])), "fp32", 2)
start = threading.Barrier(4)
def run(k):
    start.wait()
    (ours, ours.beside)[k % 2].restore(np.full((64, 64, 3), 0.5, np.float32), 1 + k // 2)
threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def test_a_process_whose_very_first_runs_come_at_once_goes_on(bundle, form):
    """Two threads in the bindings' first call used to wait for each other for good."""
    command = [sys.executable, "-c", _FIRST_RUNS, str(form), str(bundle)]
    for _ in range(3):
        subprocess.run(command, check=True, timeout=120)
