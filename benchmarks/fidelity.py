"""What ``--fidelity`` means, measured on the test photographs (docs/upscaling.md).

    python -m benchmarks.fidelity --model FOLDER

At x4 and x8, for five fidelities and plain bicubic beside them: how far the reduced result is from
the input (grey levels, and mean CIEDE2000 of both as 8-bit files), PSNR of luma and the perceptual
distance to the original. Writes benchmarks/results/fidelity.{json,md} and docs/fidelity.webp. 4 min
on 2 quiet cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import bundle_hash, machine_name
from tudsr.evaluate.metrics import delta_e, psnr_y
from tudsr.evaluate.perceptual import Perceptual
from tudsr.images.atomic import write_json, write_text, writing
from tudsr.images.read import read_image
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.target import Target

RESULTS = Path(__file__).parent / "results"
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES, SIDE_PX, SHOWN_PX = (4, 8), 512, 160


def crops(count: int) -> list[np.ndarray]:
    """The middles of the test photographs, (512, 512, 3)."""
    made: list[np.ndarray] = []
    for path in sorted(Path("data/test").iterdir())[:count]:
        pixels = read_image(path).pixels
        top, left = ((n - SIDE_PX) // 2 for n in pixels.shape[:2])
        made.append(pixels[top : top + SIDE_PX, left : left + SIDE_PX])
    return made


def reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """As 8-bit files: bicubic, rounded."""
    return np.rint(np.clip(bicubic_resize(picture, side, side), 0, 1) * 255) / np.float32(255)


def measure(
    model: str | None, originals: list[np.ndarray]
) -> tuple[list[dict[str, float | str]], list[np.ndarray]]:
    """One row a scale and level, and the first photograph's results at x4, detail enlarged."""
    upscaler = ChosenModel(model, Target(scale=4)).upscaler()
    perceptual = Perceptual("hed_vgg16", dists=False)
    rows: list[dict[str, float | str]] = []
    shown: list[np.ndarray] = []
    for scale in SCALES:
        found: dict[str, list[tuple[float, ...]]] = {}
        for hr in originals:
            lr = reduced(hr, SIDE_PX // scale)
            made = {f"{level:g}": upscaler.upscale(lr, scale, fidelity=level) for level in LEVELS}
            made = {"bicubic": np.clip(bicubic_resize(lr, SIDE_PX, SIDE_PX), 0, 1), **made}
            for name, picture in made.items():
                stored = np.asarray(np.rint(picture * 255) / 255, np.float32)
                off = np.abs(bicubic_resize(stored, *lr.shape[:2]) - lr).mean() * 255
                distance = perceptual.distances(hr, stored)[perceptual.lpips_name]
                apart = delta_e(reduced(stored, len(lr)), lr)
                found.setdefault(name, []).append((off, apart, psnr_y(stored, hr), distance))
            if not shown:
                shown = [_detail(p) for p in (*made.values(), hr)]
        for name, values in found.items():
            off, apart, psnr, distance = np.mean(values, axis=0)
            rows.append(
                {
                    "scale": f"x{scale}",
                    "fidelity": name,
                    "off the input, grey levels": round(float(off), 3),
                    "off the input, ΔE": round(float(apart), 3),
                    "PSNR-Y, dB": round(float(psnr), 2),
                    perceptual.lpips_name: round(float(distance), 4),
                }
            )
            print(rows[-1], flush=True)
    return rows, shown


def _detail(picture: np.ndarray) -> np.ndarray:
    at = (SIDE_PX - SHOWN_PX) // 2
    return picture[at : at + SHOWN_PX, at : at + SHOWN_PX]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a bundle's folder, a version or an alias")
    parser.add_argument("--count", type=int, default=6, help="photographs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=Path("docs/fidelity.webp"))
    given = parser.parse_args()
    rows, shown = measure(given.model, crops(given.count))
    bundle = bundle_hash(given.model)
    told = {"machine": machine_name(), "bundle": bundle, "rows": rows}
    write_json(given.out / "fidelity.json", told)
    names = list(rows[0])
    lines = [f"{machine_name()}; bundle {bundle[:12]}.", ""]
    lines += [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    lines += [f"| {' | '.join(str(row[n]) for n in names)} |" for row in rows]
    write_text(given.out / "fidelity.md", "\n".join(lines) + "\n")
    with writing(given.picture) as temporary:
        strip = np.concatenate(shown, axis=1)
        Image.fromarray(np.rint(strip * 255).astype(np.uint8)).save(temporary, quality=90)


if __name__ == "__main__":
    main()
