"""Results of all methods on one input, and their scores; both kept by hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.effnet import FeatEffnet
from benchmarks.quality_cases import Case, as_saved
from tudsr.evaluate.mesh import mesh
from tudsr.evaluate.metrics import delta_e, psnr_y, ssim_y
from tudsr.evaluate.niqe import niqe
from tudsr.evaluate.perceptual import Perceptual
from tudsr.images.atomic import write_json, writing
from tudsr.images.resize import bicubic_resize

Pixels = np.ndarray[Any, np.dtype[np.float32]]
Scores = dict[str, float]


@dataclass(frozen=True)
class Method:
    """A way to enlarge a case's input.

    Attributes:
        name: as the tables show it.
        key: everything that decides the result.
        enlarge: the input to the enlarged picture.
        seams: the result and the input to the seam ratio; None for a method without tiles.
    """

    name: str
    key: str
    enlarge: Callable[[Pixels], Pixels]
    seams: Callable[[Pixels, Pixels], float | None] | None = None


class Scorer:
    """Scores methods; everything that was made before is taken from ``cache``."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._perceptual = Perceptual("hed_vgg16")
        self._effnet = FeatEffnet()
        self._code = _metric_code()

    def picture(self, case: Case, method: Method) -> Pixels:
        """The method's result in steps of 1/255."""
        path = self.cache / f"{_digest(case.lr, method.key)}.png"
        if path.is_file():
            with Image.open(path) as image:
                return np.asarray(image, np.float32) / np.float32(255)
        result = as_saved(method.enlarge(case.lr))
        with writing(path) as temporary:
            levels = Image.fromarray(np.rint(result * 255).astype(np.uint8))
            levels.save(temporary, format="PNG", compress_level=1)
        return result

    def score(
        self, case: Case, methods: Sequence[Method], inside: slice | None = None
    ) -> dict[str, Scores]:
        """Scores by method; with ``inside`` of the part of the results that the original shows."""
        scores: dict[str, Scores] = {}
        todo: dict[str, tuple[Path, Pixels]] = {}
        for method in methods:
            path = self.cache / f"{_digest(case.lr, method.key, case.hr, self._code)}.json"
            if path.is_file():
                scores[method.name] = json.loads(path.read_text("utf-8"))
                continue
            result = self.picture(case, method)
            shown = result if inside is None else np.ascontiguousarray(result[inside, inside])
            scores[method.name] = _whole(shown, case, inside is None)
            if method.seams is not None and (ratio := method.seams(result, case.lr)) is not None:
                scores[method.name]["seam_ratio"] = ratio
            todo[method.name] = (path, shown)
        self._windows(case, scores, {name: shown for name, (_, shown) in todo.items()})
        for name, (path, _) in todo.items():
            write_json(path, scores[name])
        return {method.name: scores[method.name] for method in methods}

    def _windows(self, case: Case, scores: dict[str, Scores], results: dict[str, Pixels]) -> None:
        """Means over the windows; an original's features serve all methods."""
        seen: dict[str, list[Scores]] = {name: [] for name in results}
        for window in case.windows:
            hr = np.ascontiguousarray(case.hr[window])
            for name, result in results.items():
                shown = np.ascontiguousarray(result[window])
                distances = self._perceptual.distances(hr, shown)
                others = {"ssim_y": ssim_y(shown, hr), "delta_e": delta_e(shown, hr)}
                excess = mesh(shown, hr)
                others |= {} if excess is None else {"mesh": excess}
                distances["feat_effnet"] = self._effnet(hr, shown)
                seen[name].append({**others, **distances})
        for name, rows in seen.items():
            scores[name] |= {m: float(np.mean([row[m] for row in rows])) for m in rows[0]}


def _whole(result: Pixels, case: Case, from_whole_input: bool) -> Scores:
    scores = {"psnr_y": psnr_y(result, case.hr), "niqe": niqe(result)}
    if from_whole_input:
        reduced = bicubic_resize(result, *case.lr.shape[:2])
        scores["reduced_again"] = float(np.abs(reduced - case.lr).mean() * 255)
    return scores


def _metric_code() -> str:
    """Hash of the sources that scores depend on."""
    import benchmarks
    import tudsr.evaluate

    here, there = Path(benchmarks.__path__[0]), Path(tudsr.evaluate.__path__[0])
    names = [here / "effnet.py", here / "quality_scores.py", here / "quality_cases.py"]
    names += [there / f"{name}.py" for name in ("mesh", "metrics", "niqe", "perceptual", "seams")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in names)).hexdigest()


def _digest(*parts: Pixels | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return digest.hexdigest()
