"""A picture of what the degradations do: training crops beside their damaged selves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tudsr.data.degrade import degrade, sample_rng
from tudsr.data.measures import luma_of
from tudsr.data.pairs import crop_positions
from tudsr.data.photos import Photograph, read_photo
from tudsr.data.presets import PRESETS
from tudsr.errors import DataError
from tudsr.images.atomic import writing

_GAP_PX = 4
_LABEL_PX = 18


def write_preview(
    photos: Sequence[Photograph],
    out: Path,
    seed: int,
    scale: int = 4,
    crop_px: int = 192,
    rows: int = 6,
) -> None:
    """Write a PNG grid: one row a training photograph, HR first, then each preset's LR.

    LR images are enlarged by repeating pixels, so that what is seen is what the model gets.
    ``crop_px`` is the side of the HR crops; a smaller photograph gives a smaller one.

    Where the training pictures are a big set, which is not among ``photos``, those of val stand in.

    Raises:
        DataError: no photographs of train or val, or one that cannot be read.
    """
    by_split = {split: [p for p in photos if p.split == split] for split in ("train", "val")}
    shown = by_split["train"] or by_split["val"]
    if not shown:
        raise DataError("no photographs of train or val to preview: run `tudsr data validate`")
    picked = shown[:: max(1, len(shown) // rows)][:rows]
    cells = [_row(photo, seed, scale, crop_px) for photo in picked]
    labels = ["HR", *(f"{name} x{scale}" for name in PRESETS)]
    with writing(Path(out)) as temporary:
        _grid(cells, labels, crop_px).save(temporary, format="PNG")


def _row(photo: Photograph, seed: int, scale: int, crop_px: int) -> list[NDArray[np.float32]]:
    pixels = read_photo(photo.path)
    crop_px = min(crop_px, *pixels.shape[:2]) // scale * scale
    luma = luma_of(np.rint(pixels * 255).astype(np.uint8))
    ((x, y),) = crop_positions(luma, crop_px, 1, seed, photo.file)
    hr = pixels[y : y + crop_px, x : x + crop_px]
    damaged = [degrade(hr, scale, name, sample_rng(seed, photo.file, 0)) for name in PRESETS]
    return [hr, *(lr.repeat(scale, axis=0).repeat(scale, axis=1) for lr in damaged)]


def _grid(rows: list[list[NDArray[np.float32]]], labels: list[str], crop_px: int) -> Image.Image:
    pitch = crop_px + _GAP_PX
    size = (len(labels) * pitch - _GAP_PX, len(rows) * pitch - _GAP_PX + _LABEL_PX)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, label in enumerate(labels):
        draw.text((column * pitch + 2, 2), label, fill="black")
    for line, row in enumerate(rows):
        for column, cell in enumerate(row):
            image = Image.fromarray(np.rint(cell * 255).astype(np.uint8))
            canvas.paste(image, (column * pitch, line * pitch + _LABEL_PX))
    return canvas
