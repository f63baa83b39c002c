"""What quality is measured on: the test photographs, reduced cleanly and with mild damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tudsr.data.degrade import degrade, sample_rng
from tudsr.errors import DataError
from tudsr.images.read import read_image

Pixels = np.ndarray[Any, np.dtype[np.float32]]
KINDS = ("clean", "mild")
SEED = 0
# Networks that judge see these windows alone; VGG16 on the whole of 2048² takes half a minute.
WINDOW_PX = 512
CENTRE_PX = 512
# So much of the input around a centre crop is enlarged with it and cut off again.
MARGIN_PX = 16


@dataclass(frozen=True)
class Case:
    """One input and the original it was made from.

    Attributes:
        photo: the photograph's name.
        kind: ``clean`` (bicubic reduction) or ``mild`` (second-order degradation).
        scale: 4 or 8.
        lr: (H, W, 3) in [0, 1], in steps of 1/255 as a file holds it.
        hr: (H * scale, W * scale, 3).
    """

    photo: str
    kind: str
    scale: int
    lr: Pixels
    hr: Pixels

    @cached_property
    def windows(self) -> list[tuple[slice, slice]]:
        """Windows of 512² on the diagonal, corner to corner: 3 of 2048², 2 of 1024²."""
        side = min(self.hr.shape[:2])
        count = 1 + round(np.log2(side / WINDOW_PX))
        starts = np.linspace(0, side - WINDOW_PX, count).round().astype(int)
        parts = [slice(s, s + WINDOW_PX) for s in starts.tolist()]
        return [(part, part) for part in parts]


def load_cases(folder: Path, sides: dict[int, int], photos: int | None) -> list[Case]:
    """All inputs by photograph, scale and kind; ``sides`` gives the original's side by scale.

    Raises:
        DataError: no photographs, or one that is too small.
    """
    paths = sorted(folder.glob("*.webp"))[:photos]
    if not paths:
        raise DataError(f"no photographs in {folder}: run `dvc pull`")
    cases: list[Case] = []
    for path in paths:
        pixels = read_image(path).pixels
        for scale, side in sides.items():
            hr = centre(pixels, side, path.name)
            for kind in KINDS:
                rng = sample_rng(SEED, path.name, scale)
                lr = as_saved(degrade(hr, scale, kind, rng))
                cases.append(Case(path.stem, kind, scale, lr, hr))
    return cases


def centre_case(case: Case) -> tuple[Case, slice]:
    """The middle 512² of the original, its input with a margin, and where the middle lies in it."""
    inner, margin = CENTRE_PX // case.scale, MARGIN_PX
    lr = centre(case.lr, inner + 2 * margin, case.photo)
    inside = slice(margin * case.scale, margin * case.scale + CENTRE_PX)
    return replace(case, lr=lr, hr=centre(case.hr, CENTRE_PX, case.photo)), inside


def centre(pixels: Pixels, side: int, name: str) -> Pixels:
    """The middle ``side`` x ``side`` pixels."""
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    if min(top, left) < 0:
        raise DataError(f"{name} is {pixels.shape[1]} x {pixels.shape[0]}, less than {side}")
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def as_saved(pixels: Pixels) -> Pixels:
    """Rounded to 8 bits."""
    return (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)
