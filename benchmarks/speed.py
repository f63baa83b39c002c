"""How fast a model runs on a CPU, from the shell and per megapixel, beside the peers.

    python -m benchmarks.speed [--model BUNDLE] [--runs 5] [--peers SPAN,esrgan]

A 256² photograph to 2048² (goals P3 and P4): seconds a megapixel of the result in one process,
seconds and peak memory of whole commands. All take turns, run after run, after one that does not
count; a figure whose runs spread by more than 10 % is not judged. Without --model it is the
champion, the shipped model, the last run's, or models/base with adapters of zeros, whichever is
there first: the table says which. Writes benchmarks/results/speed.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.at_hand import model_at_hand
from benchmarks.machine import machine_name
from benchmarks.peers import peers
from tudsr.images.atomic import write_json, write_text
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.model.opening import open_runtime
from tudsr.profile import PROJECT_ROOT
from tudsr.release.bundle import load_bundle
from tudsr.upscale.upscaler import Upscaler

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SIDE_PX, SCALE = 256, 8
MEGAPIXELS = (SIDE_PX * SCALE) ** 2 / 1e6
MOST_SPREAD, LEAST_RUNS = 0.10, 5
GOALS = {"s/MP": 0.5, "upscale": 3.0, "--help": 0.5}
OURS = "TUDSR"
Figures = dict[str, Any]


def main() -> None:
    """Measure, judge, write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", help="a bundle's folder, a version or an alias [champion]")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", default="SPAN,Real-ESRGAN,esrgan-thick")
    options = parser.parse_args()
    names = [name for name in options.peers.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        model = model_at_hand(options.model, Path(folder))
        picture = Path(folder) / "in.png"
        pixels = _photograph(picture)
        inside = _alternating(_functions(model.path, names, pixels), options.runs)
        outside = _alternating(_commands(model.path, names, picture), options.runs)
        precision = getattr(open_runtime(model.path, "cpu"), "precision", "torch")
    told = {
        "machine": machine_name(),
        "model": model.what,
        "precision": precision,
        "seconds_a_megapixel": {
            n: _figures([s / MEGAPIXELS for s, _ in r]) for n, r in inside.items()
        },
        "command_seconds": {n: _figures([s for s, _ in r]) for n, r in outside.items()},
        "peak_mib": {n: round(max(m for _, m in r)) for n, r in outside.items()},
    }
    write_json(RESULTS / "speed.json", told)
    write_text(RESULTS / "speed.md", _page(told))
    print((RESULTS / "speed.md").read_text("utf-8"))


def _photograph(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A test photograph at 256², also as a file."""
    source = sorted((PROJECT_ROOT / "data" / "test").glob("*.webp"))[0]
    small = np.clip(bicubic_resize(read_image(source).pixels, SIDE_PX, SIDE_PX), 0, 1)
    levels = np.rint(small * 255).astype(np.uint8)
    Image.fromarray(levels).save(path)
    return levels.astype(np.float32) / np.float32(255)


def _functions(bundle: Path, names: list[str], pixels: Any) -> dict[str, Callable[[], float]]:
    """Enlarging in this process; the model is loaded and warm."""
    upscaler = Upscaler(open_runtime(bundle, "cpu"), load_bundle(bundle).upscale)
    found = {OURS: lambda: upscaler.upscale(pixels, SCALE)}
    for name in names:
        peer = next(p for p in peers(SCALE) if p.name.startswith(name))
        found[peer.name] = lambda peer=peer: peer.enlarge(pixels)
    for enlarge in found.values():
        enlarge()
    return {name: lambda enlarge=enlarge: (enlarge(), 0.0)[1] for name, enlarge in found.items()}


def _commands(bundle: Path, names: list[str], picture: Path) -> dict[str, Callable[[], float]]:
    """Whole commands, from the shell to the file."""
    python, out = sys.executable, str(picture.with_name("out.png"))
    tudsr = [python, "-m", "tudsr"]
    upscale = [*tudsr, "upscale", str(picture), out, "--scale", str(SCALE), "--model", str(bundle)]
    found = {"tudsr --help": [*tudsr, "--help"], "tudsr upscale": [*upscale, "--device", "cpu"]}
    for name in names:
        found[name] = [python, "-m", "benchmarks.peer_once", name, str(picture), out]
    # Python keeps compiled modules unless a shell forbids it, as those of containers often do.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(picture.parent / "compiled")
    for command in found.values():
        _peak_mib(command, environment)
    return {n: lambda c=command: _peak_mib(c, environment) for n, command in found.items()}


# A process's peak begins with its parent's, so a small one stands between this and the command.
_WATCH = """\
import resource, subprocess, sys
quiet = subprocess.DEVNULL
code = subprocess.run(sys.argv[1:], stdout=quiet, stderr=quiet).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def _peak_mib(command: list[str], environment: dict[str, str]) -> float:
    """Run it to its end; its peak resident memory."""
    watched = [sys.executable, "-S", "-c", _WATCH, *command]
    done = subprocess.run(watched, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return int(done.stdout) / 1024


def _alternating(
    measured: dict[str, Callable[[], float]], runs: int
) -> dict[str, list[tuple[float, float]]]:
    """(seconds, what was returned) of every run, by name."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
    for run in range(runs):
        for name, call in measured.items():
            start = time.perf_counter()
            value = call()
            found[name].append((time.perf_counter() - start, value))
            print(f"{run + 1}/{runs} {name}: {found[name][-1][0]:.2f} s", file=sys.stderr)
    return found


def _figures(seconds: list[float]) -> Figures:
    """Median, and how far apart the middle half of the runs is."""
    middle = statistics.median(seconds)
    low, high = np.percentile(seconds, (25, 75))
    return {"median": middle, "spread": float((high - low) / middle), "runs": seconds}


def _page(told: Figures) -> str:
    ours = told["seconds_a_megapixel"][OURS]
    lines = [
        "# Speed on a CPU",
        "",
        f"{told['machine']}, {told['precision']}. The model: {told['model']}.",
    ]
    lines += ["256² to 2048². Medians; the spread is the quartiles' distance over the median.", ""]
    lines += [
        "| in one process | s a megapixel | spread | ours over it |",
        "| --- | --: | --: | --: |",
    ]
    for name, figures in told["seconds_a_megapixel"].items():
        ratio = ours["median"] / figures["median"]
        lines.append(
            f"| {name} | {figures['median']:.3f} | {figures['spread']:.0%} | {ratio:.2f} |"
        )
    lines += ["", "| command | s | spread | peak MiB |", "| --- | --: | --: | --: |"]
    for name, figures in told["command_seconds"].items():
        peak = told["peak_mib"][name]
        lines.append(f"| {name} | {figures['median']:.2f} | {figures['spread']:.0%} | {peak} |")
    commands = told["command_seconds"]
    judged = [
        _verdict("P3, s a megapixel", ours, GOALS["s/MP"]),
        _verdict("P4, tudsr upscale, s", commands["tudsr upscale"], GOALS["upscale"]),
        _verdict("P4, tudsr --help, s", commands["tudsr --help"], GOALS["--help"]),
    ]
    return "\n".join([*lines, "", *judged]) + "\n"


def _verdict(what: str, figures: Figures, goal: float) -> str:
    if len(figures["runs"]) < LEAST_RUNS:
        return f"- {what}: not judged, {LEAST_RUNS} runs are needed."
    if figures["spread"] > MOST_SPREAD:
        return f"- {what}: not judged, the runs spread by {figures['spread']:.0%}."
    met = "met" if figures["median"] <= goal else "missed"
    return f"- {what}: {figures['median']:.2f}, goal {goal:g}: {met}."


if __name__ == "__main__":
    main()
