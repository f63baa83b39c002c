"""Scoring an enlarging method on the fixed pairs, image by image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track

from tudsr.evaluate.mesh import mesh
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
LOWER_IS_BETTER = ("lpips", "dists", "niqe", "delta_e", "mesh", "seam_ratio")


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


@dataclass(frozen=True)
class Method:
    """A way to enlarge.

    Attributes:
        enlarge: (H, W, 3) in [0, 1] and a ratio to the enlarged picture.
        tile_lines: (height, width, scale) to the rows and columns of the result where tiles meet,
            for the seam ratio; None for a method without tiles.
        untiled: the same method in one tile, the seam ratio's control; given with ``tile_lines``.
    """

    enlarge: Enlarge
    tile_lines: TileLines | None = None
    untiled: Enlarge | None = None


@dataclass(frozen=True)
class Scored:
    """A method's scores and its pictures, both in the pairs' order."""

    table: ScoreTable
    pictures: list[Pixels]


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
    methods: Mapping[str, Method], pairs: Sequence[ScoredPair], perceptual: Perceptual
) -> dict[str, Scored]:
    """Score methods on the pairs, by name; pairs of one HR crop are cheapest side by side."""
    console = Console(stderr=True)
    rows: dict[str, list[ImageScore]] = {name: [] for name in methods}
    pictures: dict[str, list[Pixels]] = {name: [] for name in methods}
    steps = track(pairs, "scoring", console=console, disable=not console.is_terminal)
    for pair in steps:
        for name, method in methods.items():
            result = _as_saved(method.enlarge(pair.lr, pair.scale))
            values = _measure(result, pair, method, perceptual)
            rows[name].append(ImageScore(name=pair.name, scale=pair.scale, values=values))
            pictures[name].append(result)
    return {
        name: Scored(ScoreTable(method=name, scores=tuple(rows[name])), pictures[name])
        for name in methods
    }


def _measure(
    result: Pixels, pair: ScoredPair, method: Method, perceptual: Perceptual
) -> dict[str, float]:
    values = {
        "psnr_y": psnr_y(result, pair.hr),
        "ssim_y": ssim_y(result, pair.hr),
        **perceptual.distances(pair.hr, result),
        "niqe": niqe(result),
        "delta_e": delta_e(result, pair.hr),
    }
    others = {"mesh": mesh(result, pair.hr), "seam_ratio": _seam_ratio(result, pair, method)}
    values |= {name: value for name, value in others.items() if value is not None}
    return values


def _seam_ratio(result: Pixels, pair: ScoredPair, method: Method) -> float | None:
    """Only a picture of several tiles is enlarged once more, in one."""
    if method.tile_lines is None or method.untiled is None:
        return None
    lines = method.tile_lines(result.shape[0], result.shape[1], pair.scale)
    if not any(lines):
        return None
    return seam_ratio(result, _as_saved(method.untiled(pair.lr, pair.scale)), *lines)


def kept_table(folder: Path, key: Mapping[str, str]) -> ScoreTable | None:
    """The table kept under ``key`` in ``folder``, or None.

    ``key`` must name everything that decides the scores: pairs, method, metrics and code.
    """
    path = folder / f"{_digest(key)}.json"
    if not path.is_file():
        return None
    return ScoreTable.model_validate_json(path.read_text(encoding="utf-8"))


def keep_table(folder: Path, key: Mapping[str, str], table: ScoreTable) -> None:
    """Keep a table for `kept_table`."""
    write_text(folder / f"{_digest(key)}.json", table.model_dump_json(indent=1) + "\n")


def _digest(key: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


def _as_saved(pixels: Pixels) -> Pixels:
    """Rounded to 8 bits, as a viewer gets it."""
    return (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)
