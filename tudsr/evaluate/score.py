"""Scoring an enlarging method on the fixed pairs, image by image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track

from tudsr.evaluate.metrics import delta_e, psnr_y, ssim_y
from tudsr.evaluate.niqe import niqe
from tudsr.evaluate.perceptual import Perceptual
from tudsr.evaluate.seams import seam_ratio
from tudsr.images.atomic import write_text
from tudsr.images.resize import bicubic_resize

Pixels = NDArray[np.float32]
Enlarge = Callable[[Pixels, int], Pixels]
TileLines = Callable[[int, int, int], tuple[Sequence[int], Sequence[int]]]

# Metrics of which less is better; of the others, more.
LOWER_IS_BETTER = ("lpips", "dists", "niqe", "delta_e", "seam_ratio")


class ImageScore(BaseModel):
    """What one method reached on one pair."""

    model_config = ConfigDict(frozen=True)

    name: str
    scale: int
    values: dict[str, float]


class ScoreTable(BaseModel):
    """What one method reached on all pairs."""

    model_config = ConfigDict(frozen=True)

    method: str
    scores: tuple[ImageScore, ...]

    def column(self, metric: str, scale: int) -> list[float]:
        """One metric over the images of a scale, in the pairs' order."""
        return [s.values[metric] for s in self.scores if s.scale == scale and metric in s.values]

    def mean(self, metric: str, scale: int) -> float:
        """The mean of a column; NaN where it is empty."""
        column = self.column(metric, scale)
        return float(np.mean(column)) if column else float("nan")

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in a fixed order."""
        return list(dict.fromkeys(m for s in self.scores for m in s.values))

    @property
    def scales(self) -> list[int]:
        """The ratios scored."""
        return sorted({s.scale for s in self.scores})


class ScoredPair(BaseModel):
    """A pair in memory."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    scale: int
    lr: Pixels
    hr: Pixels


def bicubic(lr: Pixels, scale: int) -> Pixels:
    """The baseline: bicubic interpolation."""
    height, width = lr.shape[:2]
    return np.clip(bicubic_resize(lr, height * scale, width * scale), 0, 1)


def score(
    method: str,
    pairs: Sequence[ScoredPair],
    enlarge: Enlarge,
    perceptual: Perceptual,
    tile_lines: TileLines | None = None,
) -> tuple[ScoreTable, list[Pixels]]:
    """Score a method on the pairs; also return its pictures, in the pairs' order.

    ``tile_lines(height, width, scale)`` gives the rows and columns of the result where tiles meet,
    for the seam ratio.
    """
    console = Console(stderr=True)
    rows: list[ImageScore] = []
    pictures: list[Pixels] = []
    steps = track(pairs, f"scoring {method}", console=console, disable=not console.is_terminal)
    for pair in steps:
        result = _as_saved(enlarge(pair.lr, pair.scale))
        values = {
            "psnr_y": psnr_y(result, pair.hr),
            "ssim_y": ssim_y(result, pair.hr),
            **perceptual.distances(pair.hr, [result])[0],
            "niqe": niqe(result),
            "delta_e": delta_e(result, pair.hr),
        }
        if tile_lines is not None:
            ratio = seam_ratio(result, *tile_lines(result.shape[0], result.shape[1], pair.scale))
            values |= {} if ratio is None else {"seam_ratio": ratio}
        rows.append(ImageScore(name=pair.name, scale=pair.scale, values=values))
        pictures.append(result)
    return ScoreTable(method=method, scores=tuple(rows)), pictures


def kept_scores(folder: Path, key: dict[str, str], compute: Callable[[], ScoreTable]) -> ScoreTable:
    """The table kept under ``key`` in ``folder``, else computed and kept.

    ``key`` must name everything that decides the scores: pairs, method, metrics and code.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest}.json"
    if path.is_file():
        return ScoreTable.model_validate_json(path.read_text(encoding="utf-8"))
    table = compute()
    write_text(path, table.model_dump_json(indent=1) + "\n")
    return table


def _as_saved(pixels: Pixels) -> Pixels:
    """Rounded to 8 bits, as a viewer gets it."""
    return (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)
