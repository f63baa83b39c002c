"""Seconds a picture with SD2.1-base's true architecture and random weights, by precision.

    python -m benchmarks.seconds_per_image [--device cuda] [--arch sd21] [--sides 512 1024 2048]

``Upscaler`` enlarges noise to each side, x4 up to 1024 pixels and x8 beyond, with profile `sd21`'s
tiles and two random adapters. One warming run, then the median of five. Times do not depend on
what the weights are; the pictures are rubbish. Writes
benchmarks/results/seconds-per-image-DEVICE.{json,md}.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live_memory import device_peak_mib
from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json, write_text
from tudsr.model.adapters import add_adapter, save_adapter
from tudsr.model.base import random_base
from tudsr.model.runtime import TorchRuntime
from tudsr.profile import PROJECT_ROOT, RuntimeSettings, load_profile
from tudsr.upscale.upscaler import Upscaler

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
MAX_SPREAD = 0.10


def main() -> None:
    """Time each side in each precision and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sd21")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for precision in given.precision:
        upscaler = Upscaler(_runtime(given, precision), load_profile("sd21").upscale)
        for side in given.sides:
            rows.append({"precision": precision, **_timed(upscaler, side, given)})
            print(rows[-1], flush=True)
    told = {"machine": machine_name(given.device), "arch": given.arch, "rows": rows}
    write_json(RESULTS / f"seconds-per-image-{given.device}.json", told)
    write_text(RESULTS / f"seconds-per-image-{given.device}.md", _table(told))


def _runtime(given: argparse.Namespace, precision: str) -> TorchRuntime:
    """Two adapters, saved and loaded as a user's are."""
    profile, base = load_profile("sd21"), random_base(given.arch, 0, given.device)
    settings = RuntimeSettings.model_validate({"device": given.device, "precision": precision})
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[int, Path] = {}
        for stage in (1, 2):
            trained = getattr(profile, f"stage{stage}")
            paths[stage] = Path(folder) / f"{stage}.safetensors"
            add_adapter(base.unet, f"stage{stage}", trained.lora, stage)
            save_adapter(paths[stage], base.unet, f"stage{stage}", trained.lora, trained.timestep)
        base = random_base(given.arch, 0, given.device)
        return TorchRuntime(base, paths, settings, upscale=profile.upscale)


def _timed(upscaler: Upscaler, side: int, given: argparse.Namespace) -> dict[str, Any]:
    scale = 4 if side <= 1024 else 8
    picture = np.random.default_rng(0).random((side // scale, side // scale, 3), np.float32)
    seconds: list[float] = []
    with device_peak_mib(given.device) as peak:
        for _ in range(given.runs + 1):
            began = time.perf_counter()
            upscaler.upscale(picture, scale)  # comes back as NumPy: the device has finished
            seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds[1:])
    spread = (max(seconds[1:]) - min(seconds[1:])) / middle
    row = {"side_px": side, "scale": scale, "seconds": seconds[1:], "median": middle}
    return {**row, "spread": spread, "peak_mib": peak.mib}


def _table(told: dict[str, Any]) -> str:
    lines = [
        f"{told['machine']}; {told['arch']} with random weights, eager. Spreads above "
        f"{MAX_SPREAD:.0%} are no judgement.",
        "",
        "| result | scale | precision | seconds a picture | spread | peak, MiB |",
        "| --- | --: | --- | --: | --: | --: |",
    ]
    for row in told["rows"]:
        lines.append(
            f"| {row['side_px']}² | x{row['scale']} | {row['precision']} | {row['median']:.3f} "
            f"| {row['spread']:.0%} | {row['peak_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
