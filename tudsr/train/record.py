"""Where training's figures and sample pictures go: a JSONL file always, MLflow when asked."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tudsr.images.atomic import naming_disk_errors, write_text, writing
from tudsr.tracking import run_for, tracking_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger("tudsr.train")
# A server that is down costs some seconds each time it is asked, and one that is silent minutes.
_REST_S = 600
_UNANSWERED = (
    "MLflow does not take figures, so training goes on without it and asks again every ten minutes "
    "(metrics.jsonl has all of them): %s"
)


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
    """The same to the MLflow run of a pipeline run, as long as MLflow answers.

    Where it does not, that is said once and it is left alone for a while: training goes on without
    it, and what is not recorded there stands in ``metrics.jsonl``.
    """

    def __init__(self, pipeline_run: str, experiment: str, prefix: str) -> None:
        self.pipeline_run = pipeline_run
        self.experiment = experiment
        self.prefix = prefix
        self._run_id: str | None = None
        self._resting_until = 0.0
        self._told = False

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log each figure under ``PREFIX/name`` at step ``images_seen``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{self.prefix}/{k}", v, now, images_seen) for k, v in values.items()]
        self._send(lambda client, run: client.log_batch(run, metrics=metrics))

    def picture(self, images_seen: int, name: str, pixels: NDArray[np.float32]) -> None:
        """Log a PNG under ``PREFIX/``."""
        image = (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        file = f"{self.prefix}/{images_seen:08d}-{name}.png"
        self._send(lambda client, run: client.log_image(run, image, file))

    def finish(self) -> None:
        """Say that the run has ended."""
        self._send(lambda client, run: client.set_terminated(run))

    def _send(self, what: Callable[[MlflowClient, str], object]) -> None:
        from mlflow import MlflowClient

        if time.monotonic() < self._resting_until:
            return
        try:
            self._run_id = self._run_id or run_for(self.pipeline_run, self.experiment)
            what(MlflowClient(tracking_uri()), self._run_id)
        except Exception as error:  # stores of pictures raise their own clients' errors
            self._resting_until = time.monotonic() + _REST_S
            if not self._told:
                said = str(error).strip().partition("\n")[0] or type(error).__name__
                _LOG.warning(_UNANSWERED, without_password(said))
            self._told = True


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
