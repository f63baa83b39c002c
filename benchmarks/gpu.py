"""What only a GPU can measure, in parts that each end within ten minutes.

    make bench-gpu                          # every part, one after the other
    python -m benchmarks.gpu --part stage1-bf16 --part seconds

No network and no weights are needed: everything runs on random weights of SD2.1-base's true
architecture. Without a GPU it says so and runs the CPU part: exact counts on meta tensors, and the
same stages on an eighth of the channels. A part that fails or runs into its time does not stop the
others; the exit code is 1 then. Each writes its own files to benchmarks/results/, and gpu.json
there says what ran, how long, and on what.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json
from tudsr.profile import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
LIMIT_S = 600
# What the parts import beside torch and the standard library.
_NEEDED = (
    *("diffusers", "transformers", "peft", "accelerate", "safetensors", "pydantic", "typer"),
    *("rich", "yaml", "numpy", "scipy", "cv2", "PIL", "skimage", "torchvision"),
    *("DISTS_pytorch", "lpips"),
)


@dataclass(frozen=True)
class Part:
    """A module and its arguments, to be done within ``LIMIT_S``."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()


def _stage(stage: int, precision: str) -> Part:
    """Stage 2's step is four chunks, so it gets twice the time."""
    given = ("--stage", str(stage), "--precision", precision, "--updates", "300")
    given += ("--minutes", str(4 * stage))
    return Part(f"stage{stage}-{precision}", "benchmarks.sd21_stages", ("--device", "cuda", *given))


def _memory(n: int) -> Part:
    """Native against looped at N·R = 512 N pixels."""
    sizes = ("--n", "1", str(n), "--native", str(n), "--tag", str(512 * n))
    return Part(f"memory-{512 * n}", "benchmarks.looped_chunk", ("--device", "cuda", *sizes))


GPU_PARTS = (
    _memory(2),
    _memory(4),
    Part("check", "benchmarks.base_check", ("--device", "cuda")),
    Part("seconds", "benchmarks.seconds_per_image", ("--device", "cuda")),
    *(_stage(stage, precision) for precision in ("bf16", "tf32", "fp32") for stage in (1, 2)),
    Part("training-step", "benchmarks.training_step", ("--profile", "sd21", "--random")),
    Part("data-wait", "benchmarks.data_wait", ("--device", "cuda")),
)
_SMALL = (
    *("--device", "cpu", "--arch", "sd21-eighth", "--r-px", "64", "--lr", "1e-3"),
    *("--updates", "40", "--precision", "fp32", "bf16", "--critic", "vgg"),
)
_COUNTED = ("looped", "whole-image losses", "native", "--tag", "counted")
CPU_PARTS = (
    Part("memory", "benchmarks.looped_chunk", ("--n", "1", "2", "4", "--kind", *_COUNTED)),
    Part("stages", "benchmarks.sd21_stages", _SMALL),
)


def main() -> None:
    """Run the parts asked for and say what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", help="one part alone; may be given again")
    wanted = parser.parse_args().part
    _check_packages()
    there = torch.cuda.is_available()
    parts = GPU_PARTS if there else CPU_PARTS
    if not there:
        print("no GPU that torch can use on this machine: only the CPU part runs", flush=True)
    unknown = sorted(set(wanted or ()) - {part.name for part in parts})
    if unknown:
        names = ", ".join(part.name for part in parts)
        raise SystemExit(f"no part {', '.join(unknown)} here; there are {names}")
    told: list[dict[str, Any]] = []
    machine = machine_name("cuda" if there else "cpu")
    for part in parts:
        if not wanted or part.name in wanted:
            told.append(_run(part))
            write_json(RESULTS / "gpu.json", {"machine": machine, "gpu": there, "parts": told})
    raise SystemExit(any(part["exit_code"] for part in told))


def _run(part: Part) -> dict[str, Any]:
    command = [sys.executable, "-m", part.module, *part.arguments]
    print(f"== {part.name}: python -m {part.module} {' '.join(part.arguments)}", flush=True)
    began = time.monotonic()
    try:
        code = subprocess.run(command, cwd=PROJECT_ROOT, timeout=LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        code = 124
    seconds = round(time.monotonic() - began, 1)
    ended = {0: "done", 124: f"stopped at {LIMIT_S} s"}.get(code, f"failed with {code}")
    print(f"== {part.name}: {ended} after {seconds:.0f} s", flush=True)
    return {"part": part.name, "exit_code": code, "seconds": seconds, "command": command[1:]}


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"missing here: {', '.join(missing)}. `make setup` installs all; on a machine without "
            "a network bring them as wheels (pip download --no-deps, then pip install --no-index)"
        )


if __name__ == "__main__":
    main()
