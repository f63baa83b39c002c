"""Kill ``tudsr upscale FOLDER OUT`` at random moments and see what is left.

    python -m benchmarks.folder_kills                 # 200 SIGKILLs

Each run is killed again and again until it gets through, then held against one that was left alone,
byte for byte. A cheap step stands in for the model, so that reading, writing and bookkeeping are
what is hit; intermediate results lie in files. Writes
benchmarks/results/folder-kills.{json,md}; some minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.drawn import drawn_picture
from benchmarks.forked import ended, fork
from benchmarks.machine import machine_name
from tudsr.errors import ImageError
from tudsr.images import canvas
from tudsr.images.atomic import write_json, write_text
from tudsr.images.read import read_image
from tudsr.profile import PROJECT_ROOT, UpscaleSettings
from tudsr.upscale import commands
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.manifest import NAME, Manifest
from tudsr.upscale.upscaler import Upscaler

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
SUFFIXES = (".png", ".jpg", ".webp", ".tif")
PICTURES, SIDE_PX, SCALE = 8, 96, 4

Floats = NDArray[np.float32]


class Darkens:
    """A step of a millisecond that stands in for a model."""

    size_multiple = 16
    side_by_side = 1

    @property
    def beside(self) -> Darkens:
        """Itself."""
        return self

    def restore(self, image: Floats, stage: int, full_precision: bool = False) -> Floats:
        """(H, W, 3) to the same shape."""
        time.sleep(0.001)
        return np.asarray(image * np.float32(1 - 0.01 * stage), np.float32)

    def restore_batch(
        self, images: Sequence[Floats], stage: int, full_precision: bool = False
    ) -> list[Floats]:
        """One by one."""
        return [self.restore(image, stage) for image in images]


class Chosen(ChosenModel):
    """Needs no bundle."""

    def upscaler(self) -> Upscaler:
        """With the cheap step."""
        return Upscaler(Darkens(), UpscaleSettings(tile_px=128, overlap_px=16))

    def signature(self) -> str:
        """Of no model."""
        return f"darkened {self.target}"

    def smaller_tile(self) -> None:
        """Never: no model says which tile is its own."""


@dataclass
class Tally:
    """What was seen."""

    kills: int = 0
    finished: int = 0
    unloadable: int = 0
    different: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Kill, go on, compare and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "folder-kills.json")
    options = parser.parse_args()
    commands.ChosenModel, canvas.IN_MEMORY_BYTES = Chosen, 0
    for name in ("serving.commands", "cv2", "pyvips", "rich.progress", "tudsr.upscale.files"):
        import_module(name)  # once, not in every child
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tudsr-kills-") as folder:
        tally, alone_s = trial(Path(folder), options.kills, options.seed)
    told = {
        "machine": f"{machine_name()}, {os.cpu_count()} cores",
        "undisturbed_s": round(alone_s, 2),
        "seconds": round(time.monotonic() - began, 1),
        **{k: dict(v) if isinstance(v, Counter) else v for k, v in vars(tally).items()},
    }
    write_json(options.json, told)
    write_text(options.json.with_suffix(".md"), _table(told))
    print(_table(told))


def trial(folder: Path, kills: int, seed: int) -> tuple[Tally, float]:
    """``kills`` SIGKILLs over as many runs as they take, and an undisturbed run's seconds."""
    rng, tally = random.Random(seed), Tally()
    _write_pictures(folder / "in")
    ended(_start(folder, "warm"))
    began = time.monotonic()
    if code := ended(_start(folder, "alone")):
        raise SystemExit(f"it does not even get through undisturbed (exit code {code})")
    alone_s, expected = time.monotonic() - began, _contents(folder / "alone")
    runs = 0
    while tally.kills < kills:
        out = folder / f"run{runs}"
        _disturb(out, expected, alone_s, tally, kills, rng)
        _compare(out, folder / "alone", expected, tally)
        runs += 1
    return tally, alone_s


def _write_pictures(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    for k in range(PICTURES):
        place = folder / "deep" if k % 2 else folder
        pixels = drawn_picture(SIDE_PX, k)
        Image.fromarray(pixels).save(place / f"{k}{SUFFIXES[k % len(SUFFIXES)]}")


def _start(folder: Path, out: str) -> int:
    arguments = ["upscale", folder / "in", folder / out, "--scale", SCALE]
    return fork(arguments, {}, folder / "trace")


def _disturb(
    out: Path,
    expected: dict[str, bytes],
    alone_s: float,
    tally: Tally,
    kills: int,
    rng: random.Random,
) -> None:
    """Kill one run until it gets through, or until there have been kills enough."""
    code = -1
    while code != 0:
        child = _start(out.parent, out.name)
        if tally.kills < kills:
            time.sleep(rng.uniform(0, alone_s))
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        if code == -signal.SIGKILL:
            tally.kills += 1
            _examine(out, expected, tally)
        elif code != 0:
            tally.different.append(f"{out.name}: exit code {code}")
            return


def _examine(out: Path, expected: dict[str, bytes], tally: Tally) -> None:
    """What a kill left: results by their names have to be whole, others may be half written."""
    found = _contents(out)
    whole = {name: data for name, data in found.items() if not Path(name).name.startswith(".")}
    tally.unloadable += sum(not _loads(data) for data in whole.values())
    tally.different += [
        f"{out.name}: {name} after a kill" for name in whole if whole[name] != expected[name]
    ]
    if len(found) > len(whole):
        tally.moments["with a result half written"] += 1
    elif not whole:
        tally.moments["before the first result"] += 1
    else:
        tally.moments["between results" if len(whole) < PICTURES else "with all results there"] += 1


def _compare(out: Path, alone: Path, expected: dict[str, bytes], tally: Tally) -> None:
    tally.finished += 1
    if _contents(out) != expected:
        tally.different.append(f"{out.name}: files")
    if _noted(out) != _noted(alone):
        tally.different.append(f"{out.name}: manifest")


def _noted(out: Path) -> list[tuple[str, object, str, str | None]]:
    entries = Manifest(out).entries.values()
    return sorted((e.target, e.stamp, e.signature, e.error) for e in entries)


def _contents(folder: Path) -> dict[str, bytes]:
    """All files, hidden ones too, but for the manifest, which has times."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != NAME]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def _loads(data: bytes) -> bool:
    try:
        return read_image(data).size == (SIDE_PX * SCALE, SIDE_PX * SCALE)
    except ImageError:
        return False


def _table(told: dict[str, Any]) -> str:
    moments = ", ".join(f"{v} {k}" for k, v in sorted(told["moments"].items()))
    rows = {
        "SIGKILLs": f"{told['kills']} ({moments})",
        "results that cannot be loaded": told["unloadable"],
        "runs held against one left alone": f"{told['finished']}, of {PICTURES} pictures each",
        "differences": len(told["different"]),
        "machine, seconds": f"{told['machine']}, {told['seconds']}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines]) + "\n"


if __name__ == "__main__":
    main()
