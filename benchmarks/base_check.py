"""Whether SD2.1-base's attention ever holds its scores at 512 pixels, as `tudsr base check` tells.

    python -m benchmarks.base_check [--device cuda] [--arch sd21] [--px 512]

`tudsr base random` writes a base, which is loaded again and takes a step forward and backward in
each precision: every operation is watched for a (tokens, tokens) tensor, the autoencoder's 512-wide
head included. Exit code 1 where one appeared or a value was not finite. Writes
benchmarks/results/base-check-DEVICE-ARCH.{json,md}.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.live_memory import device_peak_mib
from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json, write_text
from tudsr.model.attention import check_step
from tudsr.model.base import load_base_folder
from tudsr.model.commands import random
from tudsr.profile import PROJECT_ROOT, RuntimeSettings

RESULTS = PROJECT_ROOT / "benchmarks" / "results"


def main() -> None:
    """Check each precision, write what was seen, and fail where it was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sd21", choices=["sd21", "sd21-eighth"])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--px", type=int, default=512)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "base"
        random(folder, given.arch, "bf16", 0)
        rows = [checked(folder, given, precision) for precision in given.precision]
    told = {"machine": machine_name(given.device), "arch": given.arch, "rows": rows}
    name = f"base-check-{given.device}-{given.arch}"
    write_json(RESULTS / f"{name}.json", told)
    write_text(RESULTS / f"{name}.md", table(told))
    print(table(told))
    raise SystemExit(any(row["scores"] or not row["finite"] for row in rows))


def checked(folder: Path, given: argparse.Namespace, precision: str) -> dict[str, Any]:
    """One step of the stored base in one precision."""
    settings = RuntimeSettings.model_validate({"device": given.device, "precision": precision})
    base = load_base_folder(folder).requires_grad_(False).to(given.device)
    with device_peak_mib(given.device) as peak:
        found = check_step(base, given.px, settings)
    return {"px": given.px, "precision": precision, **asdict(found), "peak_mib": peak.mib}


def table(told: dict[str, Any]) -> str:
    """What was seen in each precision."""
    lines = [
        f"{told['machine']}; {told['arch']} with random weights, forward and backward.",
        "",
        "| side | precision | finite | attention scores | peak, MiB |",
        "| --- | --- | --- | --- | --: |",
    ]
    for row in told["rows"]:
        scores = f"HELD: {row['scores'][0]}" if row["scores"] else "never held"
        lines.append(
            f"| {row['px']}² | {row['precision']} | {'yes' if row['finite'] else 'NO'} | {scores} "
            f"| {row['peak_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
