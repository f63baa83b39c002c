"""How long a set of LSDIR's size takes to index, and in how much memory.

    python -m benchmarks.big_data [--short]

Makes 85 tar shards of 1,000 members of 1.7 MB each in which only headers are written: the rest are
holes, which take no disk. Indexes them, then reads the order of an epoch. Writes
benchmarks/results/big-data.{json,md}. Nothing is decoded: reading and decoding are the disk's and
Pillow's business. ``--short`` builds the index once instead of five times.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_name
from tudsr.data.index import build_index, load_index, save_index
from tudsr.data.order import epoch_order
from tudsr.data.sources import list_sources
from tudsr.images.atomic import write_json, write_text
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SHARDS, EACH, MEMBER_BYTES = 85, 1000, 1_700_000
RUNS = 5


def main() -> None:
    """Generate, index, and write the figures."""
    parser = argparse.ArgumentParser(description="Indexing a set of LSDIR's size.")
    parser.add_argument("--short", action="store_true", help="build the index once")
    runs = 1 if parser.parse_args().short else RUNS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        folder.mkdir()
        for shard in range(SHARDS):
            write_hollow_tar(folder / f"{shard:05d}.tar", shard * EACH)
        told = _measure(str(folder), Path(scratch), runs)
    write_json(RESULTS / "big-data.json", told)
    write_text(RESULTS / "big-data.md", _table(told))
    print((RESULTS / "big-data.md").read_text("utf-8"))


def write_hollow_tar(path: Path, first: int) -> None:
    """A whole tar with true headers; its members are holes of zeros in the file."""
    with path.open("wb") as file:
        for number in range(first, first + EACH):
            info = tarfile.TarInfo(f"{number:07d}.png")
            info.size = MEMBER_BYTES
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            file.seek(-(-MEMBER_BYTES // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, os.SEEK_CUR)
        file.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def _measure(folder: str, scratch: Path, runs: int) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    builds: list[float] = []
    path = scratch / "set.index.safetensors"
    for _ in range(runs):
        started = time.perf_counter()
        save_index(build_index([folder], list_sources([folder])), path)
        builds.append(time.perf_counter() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    started = time.perf_counter()
    index = load_index(path)
    loaded = time.perf_counter() - started
    started = time.perf_counter()
    epoch_order(len(index), 0, 0)
    return {
        "machine": machine_name(),
        "pictures": len(index),
        "shards": SHARDS,
        "runs": runs,
        "set_gb": round(SHARDS * EACH * MEMBER_BYTES / 1e9, 1),
        "build_s": round(statistics.median(builds), 2),
        "build_s_range": [round(min(builds), 2), round(max(builds), 2)],
        "memory_grown_mib": round(grown / 1024, 1),
        "index_mib": round(path.stat().st_size / 2**20, 2),
        "load_ms": round(1e3 * loaded, 1),
        "order_ms": round(1e3 * (time.perf_counter() - started), 1),
    }


def _table(told: dict[str, Any]) -> str:
    low, high = told["build_s_range"]
    return (
        f"{told['machine']}, index built {told['runs']} times.\n\n"
        "| pictures | shards | set | index built in | memory | index | loaded in "
        "| an epoch's order |\n| --: | --: | --: | --: | --: | --: | --: | --: |\n"
        f"| {told['pictures']:,} | {told['shards']} | {told['set_gb']} GB | {told['build_s']} s "
        f"({low} to {high}) | {told['memory_grown_mib']} MiB | {told['index_mib']} MiB "
        f"| {told['load_ms']} ms | {told['order_ms']} ms |\n"
    )


if __name__ == "__main__":
    main()
