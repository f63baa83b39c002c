"""Seams (goal S1) and memory (goal P5): what tiles do to a picture, and what its size does to us.

    python -m benchmarks.tiling --model FOLDER         # the small model
    python -m benchmarks.tiling --arch sd21-eighth     # SD2.1's classes, random weights
    python -m benchmarks.tiling --idle                 # no model: the paths around it alone

``--seams`` or ``--memory`` does one of the two. On 2 quiet cores: seams 2 min, memory 4 min for
the small model at 8192 x 8192. Peak memory is the largest resident set of a process that makes one
picture, start to end, by the command's own code.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.machine import bundle_hash, machine_name
from benchmarks.tiling_peers import diffusers_style, hard_tiles, upscaler_of
from tudsr.evaluate.seams import seam_steps
from tudsr.images.atomic import write_json, write_text
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.cascade import pass_sizes, split_scale
from tudsr.upscale.tiles import plan_tiles
from tudsr.upscale.upscaler import Upscaler

RESULTS = Path(__file__).parent / "results"
SCALE, SHIFT_PX = 4, 128
FORMATS = ("png", "tif", "jpg")
SEAM_GOAL, SHIFT_GOAL_DB, MEMORY_GOAL = 1.02, 45.0, 1.05
_CHILD = """
import sys
from tudsr.machine import share_one_heap
share_one_heap()  # as the command
from pathlib import Path
from benchmarks.tiling_peers import chosen_of
from tudsr.upscale.files import Job, upscale_one
source, target, kind, where = sys.argv[1:]
upscale_one(Job(Path(source), Path(target)), chosen_of(kind, where, 8))
# Not ru_maxrss: a process inherits its parent's.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def seams(kind: str, where: str, pictures: list[np.ndarray]) -> list[dict[str, object]]:
    """Seam ratio, over all lines, and shift consistency, mean over pictures, of ways to tile.

    Untiled, a shifted grid tells what the pixels added at two sides change by themselves: for a
    network with statistics over the whole picture that is the most any tiling can reach.
    """
    whole = upscaler_of(kind, where, whole=True)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "untiled": lambda lr: whole.upscale(lr, SCALE),
        "tudsr": lambda lr: upscaler_of(kind, where).upscale(lr, SCALE),
        "diffusers-style": diffusers_style(kind, where),
        "hard tiles": hard_tiles(kind, where),
    }
    rows: list[dict[str, object]] = []
    controls: list[float] = []
    for name, enlarge in ways.items():
        steps, shifts = [], []
        for lr in pictures:
            made, lines = enlarge(lr), _lines(upscaler_of(kind, where), lr)
            steps.append(seam_steps(made, lines, lines))
            shifts.append(_psnr(made, _shifted(enlarge, lr)))
        controls = controls or steps
        rows.append(
            {
                "way": name,
                "seam ratio": round(sum(steps) / sum(controls), 4),
                "worst seam ratio": round(float(np.divide(steps, controls).max()), 4),
                "shifted grid, dB": round(float(np.mean(shifts)), 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def memory(
    kind: str, where: str, sides: tuple[int, int], formats: Sequence[str]
) -> list[dict[str, object]]:
    """Peak memory of a small result, median of three, and of a large one, by format."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for side in sides:
            picture = Image.fromarray(noise).resize(
                (side // 8, side // 8), Image.Resampling.BICUBIC
            )
            for fmt in formats:
                source = Path(folder) / f"{side}.{fmt}"
                picture.save(source)
                # The small one is what growth is told against: not one run's chance.
                runs = 3 if side == min(sides) else 1
                target = Path(folder) / f"out.{fmt}"
                peak = median(_peak(source, target, kind, where) for _ in range(runs))
                before = [r for r in rows if r["format"] == fmt]
                ratio = peak / float(str(before[0]["peak, MiB"])) if before else 1.0
                row = {"format": fmt, "result": f"{side}²", "peak, MiB": peak}
                rows.append({**row, "to the small one": round(ratio, 3)})
                print(rows[-1], flush=True)
    return rows


def _peak(source: Path, target: Path, kind: str, where: str) -> float:
    command = [sys.executable, "-c", _CHILD, str(source), str(target), kind, where]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(int(done.stdout.split()[-1]) / 1024, 1)


def _shifted(enlarge: Callable[[np.ndarray], np.ndarray], lr: np.ndarray) -> np.ndarray:
    """The same part of the result with the grid moved by about half a tile."""
    pad = SHIFT_PX // SCALE
    return enlarge(np.pad(lr, ((pad, 0), (pad, 0), (0, 0)), "reflect"))[SHIFT_PX:, SHIFT_PX:]


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Without the border whose surroundings the shift changed."""
    error = np.square(a - b, dtype=np.float64)[SHIFT_PX:, SHIFT_PX:].mean()
    return 200.0 if error == 0 else min(200.0, -10 * float(np.log10(error)))


def _lines(upscaler: Upscaler, lr: np.ndarray) -> list[int]:
    """Where the last pass' tiles meet; pictures are square."""
    how, (height, width) = upscaler.settings, lr.shape[:2]
    rows, columns = pass_sizes(height, width, split_scale(SCALE, how.one_pass_to))[-1]
    multiple = upscaler.runtime.size_multiple
    tiles = plan_tiles(rows, columns, how, multiple)
    return sorted({round(t.rows.fade_in.centre) for t in tiles if t.rows.fade_in is not None})


def _pictures(side: int, count: int) -> list[np.ndarray]:
    """The middles of the test photographs, reduced by 4."""
    made: list[np.ndarray] = []
    for path in sorted(Path("data/test").iterdir())[:count]:
        pixels = read_image(path).pixels
        top, left = ((n - SCALE * side) // 2 for n in pixels.shape[:2])
        crop = pixels[top : top + SCALE * side, left : left + SCALE * side]
        made.append(np.clip(bicubic_resize(crop, side, side), 0, 1))
    return made


def _table(rows: list[dict[str, object]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(str(r[n]) for n in names) + " |" for r in rows])


def main() -> None:
    """Measure, print, and write benchmarks/results/tiling-KIND-PART.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="a bundle's folder; empty: the champion")
    parser.add_argument("--arch", help="random weights of this architecture instead")
    parser.add_argument("--idle", action="store_true", help="a model that changes nothing")
    parser.add_argument("--seams", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--large", type=int, default=8192, help="side of the large result")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--side", type=int, default=224, help="side of the inputs for seams")
    parser.add_argument("--count", type=int, default=6, help="pictures for seams")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    kind = "idle" if given.idle else "random" if given.arch else "model"
    where = given.arch or given.model
    about = {"machine": machine_name(), "model": given.arch or kind}
    if kind == "model":
        about["bundle"] = bundle_hash(given.model or None)
    both = not given.seams and not given.memory
    if (given.seams or both) and kind != "idle":
        rows = seams(kind, where, _pictures(given.side, given.count))
        goal = f"Goal S1: {SEAM_GOAL} and {SHIFT_GOAL_DB:g} dB"
        _write(given.out, about, "seams", f"x{SCALE}, {given.count} photographs. {goal}.", rows)
    if given.memory or both:
        rows = memory(kind, where, (1024, given.large), given.formats)
        goal = f"Goal P5: {MEMORY_GOAL} for PNG and TIFF"
        _write(given.out, about, "memory", f"x8, one process a row. {goal}.", rows)


def _write(
    folder: Path, about: dict[str, str], part: str, told: str, rows: list[dict[str, object]]
) -> None:
    name = f"tiling-{about['model']}-{part}"
    write_json(folder / f"{name}.json", json.loads(json.dumps({**about, "rows": rows})))
    which = f"bundle {about['bundle'][:12]}" if "bundle" in about else about["model"]
    text = f"{which}, {about['machine']}.\n\n{told}\n\n{_table(rows)}\n"
    write_text(folder / f"{name}.md", text)


if __name__ == "__main__":
    main()
