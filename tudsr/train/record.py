"""Where training's figures and sample pictures go: a JSONL file always, MLflow when asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tudsr.images.atomic import naming_disk_errors, write_text, writing


class Recorder(Protocol):
    """Takes figures and pictures as training goes on."""

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Record named figures at this point of training."""
        ...

    def picture(self, images_seen: int, name: str, pixels: NDArray[np.float32]) -> None:
        """Record an (H, W, 3) picture in [0, 1]."""
        ...


class FileRecorder:
    """``metrics.jsonl`` and ``samples/`` in a folder; a resumed run drops what came later."""

    def __init__(self, folder: Path, images_seen: int = 0) -> None:
        self.folder = folder
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        rows = read_metrics(self.path)
        kept = [json.dumps(row) for row in rows if row["images_seen"] <= images_seen]
        write_text(self.path, "".join(line + "\n" for line in kept))

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Append one line."""
        with naming_disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"images_seen": images_seen, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def picture(self, images_seen: int, name: str, pixels: NDArray[np.float32]) -> None:
        """Write ``samples/IMAGES-NAME.png``."""
        from PIL import Image

        (self.folder / "samples").mkdir(exist_ok=True)
        with writing(self.folder / "samples" / f"{images_seen:08d}-{name}.png") as temporary:
            Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(temporary)


class MlflowRecorder:
    """The same to an active MLflow run."""

    def __init__(self, tracking_uri: str, run_id: str, prefix: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri)
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self.prefix = prefix

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log each figure under ``PREFIX/name`` at step ``images_seen``."""
        from time import time

        from mlflow.entities import Metric

        now = int(time() * 1000)
        metrics = [Metric(f"{self.prefix}/{k}", v, now, images_seen) for k, v in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def picture(self, images_seen: int, name: str, pixels: NDArray[np.float32]) -> None:
        """Log a PNG under ``PREFIX/``."""
        image = (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        file = f"{self.prefix}/{images_seen:08d}-{name}.png"
        self.client.log_image(self.run_id, image, file)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file; a last line cut off by a kill is left out."""
    if not path.is_file():
        return []
    rows: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
