"""A sheet a photograph: the same crop by every method at x8, side by side, committed small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality_cases import Case
from benchmarks.quality_scores import Method, Scorer
from tudsr.images.atomic import writing
from tudsr.images.resize import bicubic_resize

Pixels = np.ndarray[Any, np.dtype[np.float32]]
CROP_PX, COLUMNS, GAP_PX, LABEL_PX = 224, 5, 6, 16
REDUCED = 8  # contrast is looked for in a picture reduced by this
# All sheets together; quality is lowered until they fit.
MOST_BYTES = 400_000


def write_sheets(
    cases: Sequence[Case], scorer: Scorer, methods: Sequence[Method], folder: Path
) -> None:
    """Write PHOTO.webp for each photograph's x8 inputs: clean above, mild below."""
    photos = list(dict.fromkeys(case.photo for case in cases))
    for photo in photos:
        chosen = [c for c in cases if c.photo == photo and c.scale == 8]
        sheet = np.concatenate([_rows(case, scorer, methods) for case in chosen])
        _save(sheet, folder / f"{photo}.webp", MOST_BYTES // len(photos))


def _rows(case: Case, scorer: Scorer, methods: Sequence[Method]) -> Pixels:
    """The crop by all methods, with the input and the original before them."""
    height, width = case.hr.shape[:2]
    nearest = case.lr.repeat(case.scale, 0).repeat(case.scale, 1)
    shown = [(f"input, {case.kind}", nearest), ("original", case.hr)]
    shown += [(method.name, scorer.picture(case, method)) for method in methods]
    window = busiest(case.hr, min(CROP_PX, height, width))
    cells = [_cell(name, np.ascontiguousarray(picture[window])) for name, picture in shown]
    blank = np.ones_like(cells[0])
    cells += [blank] * (-len(cells) % COLUMNS)
    lines = [np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)]
    return np.concatenate(lines)


def busiest(picture: Pixels, side: int) -> tuple[slice, slice]:
    """Where ``side`` x ``side`` pixels of the original have the most contrast, seen from afar:
    middles may be sky."""
    height, width = picture.shape[:2]
    small = bicubic_resize(picture, height // REDUCED, width // REDUCED).mean(axis=2)
    steep = np.hypot(*np.gradient(small)).cumsum(0).cumsum(1)
    sums = np.pad(steep, ((1, 0), (1, 0)))
    n = side // REDUCED
    inside = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
    top, left = (int(i) * REDUCED for i in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + side), slice(left, left + side)


def _cell(name: str, picture: Pixels) -> Pixels:
    """The picture on white, its name above it."""
    if picture.shape[0] != CROP_PX:
        picture = np.clip(bicubic_resize(picture, CROP_PX, CROP_PX), 0, 1)
    label = Image.new("RGB", (CROP_PX, LABEL_PX), "white")
    ImageDraw.Draw(label).text((1, 1), name, "black", ImageFont.load_default(12))
    drawn = np.asarray(label, np.float32) / np.float32(255)
    cell = np.concatenate([drawn, picture])
    return np.pad(cell, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=1)


def _save(sheet: Pixels, path: Path, most_bytes: int) -> None:
    image = Image.fromarray(np.rint(sheet * 255).astype(np.uint8))
    for quality in range(90, 20, -5):
        with writing(path) as temporary:
            image.save(temporary, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= most_bytes:
            return
