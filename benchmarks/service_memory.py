"""Goal P5 at the endpoint: the service's peak memory for a small result and for a large one.

    python -m benchmarks.service_memory --model models/small [--large 8192]

A service of its own for each row, which enlarges one picture by 8 after its warm-up. Peak memory is
the largest resident set of the process that enlarges, start to end; of the small result the median
of three services. JPEG's encoder holds the picture whole. About 5 minutes on 2 quiet cores.
Writes benchmarks/results/service-memory.{json,md}.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.machine import bundle_hash, machine_name
from tests.serving.conftest import Server
from tudsr.client import Client
from tudsr.images.atomic import write_json, write_text
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SCALE, SMALL, GOAL = 8, 1024, 1.05
FORMATS = ("png", "tiff", "jpeg")


def main() -> None:
    """Measure every format at both sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a bundle's folder")
    parser.add_argument("--large", type=int, default=8192, help="side of the large result, pixels")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for fmt in FORMATS:
        small = median(peak_mib(given.model, SMALL, fmt) for _ in range(3))
        large = peak_mib(given.model, given.large, fmt)
        rows.append({"format": fmt, "small_mib": small, "large_mib": large})
        print(rows[-1], flush=True)
    told = {"machine": machine_name(), "bundle": bundle_hash(str(given.model))}
    told |= {"small": SMALL, "large": given.large, "rows": rows}
    write_json(RESULTS / "service-memory.json", told)
    write_text(RESULTS / "service-memory.md", table(told))


def peak_mib(bundle: Path, side: int, fmt: str) -> float:
    """Of a service that makes one result of ``side`` x ``side`` pixels."""
    command = [sys.executable, "-m", "tudsr", "serve", "--model", str(bundle)]
    with tempfile.TemporaryDirectory() as folder:
        state = str(Path(folder) / "state")
        with Server(command, Path(folder) / "log", TUDSR_SERVE_STATE=state) as server:
            Client(server.url).upscale(_picture(side // SCALE), scale=SCALE, format=fmt)
            return round(max(_peaks_kib(server.process.pid)) / 1024, 1)


def table(told: dict[str, Any]) -> str:
    """As Markdown."""
    small, large = told["small"], told["large"]
    lines = [f"{told['machine']}; bundle {told['bundle'][:12]}; x{SCALE}, a service a row. "
             f"Goal P5: {GOAL} for PNG and TIFF.", "",
             f"| format | {small} x {small}, MiB | {large} x {large}, MiB | |",
             "| --- | --: | --: | --: |"]  # fmt: skip
    for row in told["rows"]:
        ratio = row["large_mib"] / row["small_mib"]
        lines.append(f"| {row['format']} | {row['small_mib']} | {row['large_mib']} | {ratio:.3f} |")
    return "\n".join(lines) + "\n"


def _picture(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def _peaks_kib(parent: int) -> list[int]:
    """Largest resident sets of a process and its descendants; BentoML's worker is one."""
    family = [parent, *(child.pid for child in psutil.Process(parent).children(recursive=True))]
    status = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in family]
    return [int(text.split("VmHWM:")[1].split()[0]) for text in status]


if __name__ == "__main__":
    main()
