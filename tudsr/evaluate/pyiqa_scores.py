"""The paper's metrics through pyiqa, where that is installed (extra ``paper-metrics``).

pyiqa's licence is non-commercial and it fetches each metric's weights at first use, so nothing else
depends on it. ``maniqa-pipal`` and not pyiqa's default ``maniqa``: with it the published OSEDiff
rows are those of OSEDiff's own log.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tudsr.evaluate.benchmark import SetPicture
from tudsr.images.read import read_image

FULL_REFERENCE = {"LPIPS": "lpips"}
NO_REFERENCE = {
    "CLIPIQA": "clipiqa",
    "CLIPIQA+": "clipiqa+",
    "NIMA": "nima",
    "NIQE": "niqe",
    "LIQE": "liqe",
    "MUSIQ": "musiq",
    "MANIQA": "maniqa-pipal",
}
INSTALL = "`uv pip install -e '.[paper-metrics]'` (non-commercial licence; fetches its weights)"


def is_installed() -> bool:
    """Whether pyiqa can be imported."""
    return find_spec("pyiqa") is not None


def pyiqa_scores(
    pictures: Sequence[SetPicture], results: Sequence[Path], device: str
) -> tuple[dict[str, float], list[str]]:
    """Means by metric, and a sentence for each metric that could not be had.

    One network is held at a time. LPIPS and FID need originals.
    """
    names = dict(NO_REFERENCE)
    if pictures[0].hr is not None:
        names = {**FULL_REFERENCE, "FID": "fid", **names}
    scores: dict[str, float] = {}
    failed: list[str] = []
    for metric, name in names.items():
        try:
            scores[metric] = _mean(name, pictures, results, device)
        # Weights that cannot be fetched come as any of these, by the host they are on.
        except (OSError, RuntimeError, ValueError, ImportError, KeyError) as error:
            failed.append(f"{metric}: pyiqa's {name!r} failed: {' '.join(str(error).split())}")
    return scores, failed


def _mean(name: str, pictures: Sequence[SetPicture], results: Sequence[Path], device: str) -> float:
    import torch

    pyiqa: Any = import_module("pyiqa")
    metric: Any = pyiqa.create_metric(name, device=torch.device(device))
    truth = [picture.hr for picture in pictures if picture.hr is not None]
    with torch.inference_mode():
        if name == "fid":
            return _fid(metric, results, truth)
        if name in FULL_REFERENCE.values():
            pairs = zip(results, truth, strict=True)
            return float(np.mean([float(metric(_tensor(r), _tensor(t))) for r, t in pairs]))
        return float(np.mean([float(metric(_tensor(result))) for result in results]))


def _fid(metric: Any, results: Sequence[Path], truth: Sequence[Path]) -> float:
    """Of exactly these files: pyiqa scores whole folders, whatever else lies in them."""
    with TemporaryDirectory(prefix="tudsr-fid-") as name:
        folders: list[str] = []
        for side, files in (("results", results), ("truth", truth)):
            folder = Path(name) / side
            folder.mkdir()
            for number, file in enumerate(files):
                (folder / f"{number:06d}{file.suffix}").symlink_to(file.resolve())
            folders.append(str(folder))
        return float(metric(folders[1], folders[0]))


def _tensor(path: Path) -> Any:
    """(1, 3, H, W) in [0, 1]."""
    import torch

    pixels = np.ascontiguousarray(read_image(path).pixels.transpose(2, 0, 1), np.float32)
    return torch.from_numpy(pixels)[None]
