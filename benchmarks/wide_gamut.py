"""Whether a picture with a profile of RGB should be converted to sRGB for the model, and back.

    python -m benchmarks.wide_gamut --model models/small

The middles of the test photographs at x4, in Display P3 and Adobe RGB (1998): once with their own
colours, once with the profile attached to their samples, so that many colours lie outside sRGB.
CIEDE2000, D65, to the original and of the reduced result to the input. Writes
benchmarks/results/wide-gamut.{json,md}; 2 min on a core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, xyz2lab

from benchmarks.fidelity import RESULTS, SIDE_PX, crops
from benchmarks.machine import machine_name
from tudsr.images.atomic import write_json, write_text
from tudsr.images.resize import bicubic_resize
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler

SCALE = 4
COLUMNS = (
    *("space", "colours", "outside sRGB, %", "to the original: as it is", "converted", "bicubic"),
    *("reduced, to the input: as it is", "converted ", "between both ways"),
)
_WHITE = (0.3127, 0.3290)  # D65, as all three spaces have it
# x and y of red, green and blue: IEC 61966-2-1, SMPTE EG 432-1, Adobe RGB (1998).
_PRIMARIES = {
    "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "Display P3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
_ADOBE_GAMMA = 563 / 256

Samples = NDArray[np.floating]


def to_xyz(samples: Samples, space: str) -> Samples:
    """(H, W, 3) of a space in [0, 1] to CIE XYZ, white at Y = 1."""
    if space == "Adobe RGB":
        linear = samples.astype(np.float64) ** _ADOBE_GAMMA
    else:
        linear = np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
    return linear @ _matrix(space).T


def from_xyz(xyz: Samples, space: str) -> NDArray[np.float32]:
    """CIE XYZ to (H, W, 3) of a space, clipped to [0, 1]."""
    linear = np.clip(xyz @ np.linalg.inv(_matrix(space)).T, 0, 1)
    if space == "Adobe RGB":
        return (linear ** (1 / _ADOBE_GAMMA)).astype(np.float32)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curved).astype(np.float32)


def _matrix(space: str) -> Samples:
    """RGB to XYZ from chromaticities (SMPTE RP 177)."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*_PRIMARIES[space], _WHITE)]).T
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def _stored(samples: Samples) -> NDArray[np.float32]:
    return (np.rint(np.clip(samples, 0, 1) * 255) / 255).astype(np.float32)


def _apart(a: Samples, b: Samples, space: str) -> float:
    labs = (xyz2lab(to_xyz(picture, space)) for picture in (a, b))
    return float(deltaE_ciede2000(*labs).mean())


def compare(upscaler: Upscaler, hr: Samples, space: str) -> list[float]:
    """Both ways of one picture, in the order of `COLUMNS`."""
    low = SIDE_PX // SCALE
    lr = _stored(bicubic_resize(np.asarray(hr, np.float32), low, low))
    narrow = from_xyz(to_xyz(lr, space), "sRGB")
    outside = np.abs(from_xyz(to_xyz(narrow, "sRGB"), space) - lr).max(axis=2) > 2 / 255
    plain = _stored(upscaler.upscale(lr, SCALE))
    made = upscaler.upscale(_stored(narrow), SCALE)
    converted = _stored(from_xyz(to_xyz(made, "sRGB"), space))
    bicubic = _stored(bicubic_resize(lr, SIDE_PX, SIDE_PX))
    back = [_stored(bicubic_resize(p, low, low)) for p in (plain, converted)]
    return [
        100 * float(outside.mean()),
        *(_apart(picture, hr, space) for picture in (plain, converted, bicubic)),
        *(_apart(picture, lr, space) for picture in back),
        _apart(plain, converted, space),
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a bundle's folder, a version or an alias")
    given = parser.parse_args()
    upscaler = ChosenModel(given.model, Target(scale=SCALE)).upscaler()
    originals, rows = crops(6), list[list[str | float]]()
    for space in ("Display P3", "Adobe RGB"):
        own = [_stored(from_xyz(to_xyz(p, "sRGB"), space)) for p in originals]
        for colours, pictures in (("of the photographs", own), ("stretched", originals)):
            means = np.mean([compare(upscaler, p, space) for p in pictures], axis=0)
            rows.append([space, colours, round(means[0], 1), *(round(m, 2) for m in means[1:])])
    lines = [f"| {' | '.join(map(str, row))} |" for row in (COLUMNS, *rows)]
    lines.insert(1, "| --- | --- |" + " --: |" * (len(COLUMNS) - 2))
    path: Path = RESULTS / "wide-gamut"
    write_json(path.with_suffix(".json"), {"machine": machine_name(), "rows": rows})
    write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
