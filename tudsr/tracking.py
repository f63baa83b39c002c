"""One MLflow run per pipeline run, whichever process or node a step runs in."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tudsr.places import outputs_dir

if TYPE_CHECKING:
    from tudsr.release.gate import Verdict

_RUN_TAG = "tudsr.pipeline_run"
# A server that does not answer is said so after seconds, not after MLflow's several minutes.
_HTTP_RETRIES = "2"


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite file under ``outputs/``."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _HTTP_RETRIES)
    outputs_dir().mkdir(parents=True, exist_ok=True)
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{outputs_dir() / 'mlflow.db'}"


def experiment_id(name: str) -> str:
    """The experiment of this name, made on first use."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    remote = "MLFLOW_TRACKING_URI" in os.environ
    location = None if remote else (outputs_dir() / "mlartifacts").resolve().as_uri()
    return client.create_experiment(name, artifact_location=location)


def run_for(pipeline_run: str, experiment: str, tags: dict[str, str] | None = None) -> str:
    """The id of the MLflow run that belongs to a pipeline run, made on first use."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    experiment_key = experiment_id(experiment)
    found = client.search_runs([experiment_key], f"tags.`{_RUN_TAG}` = '{pipeline_run}'")
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(
        experiment_key, run_name=pipeline_run, tags={_RUN_TAG: pipeline_run, **(tags or {})}
    )
    return str(run.info.run_id)


def end_run(run_id: str, status: Literal["FINISHED", "FAILED"] = "FINISHED") -> None:
    """Say that a run has ended; MLflow shows it as running until then."""
    from mlflow import MlflowClient

    MlflowClient(tracking_uri()).set_terminated(run_id, status)


def without_password(text: str) -> str:
    """The text without what stands before the host in its addresses."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def log_evaluation(run_id: str, verdict: Verdict, folder: Path) -> None:
    """The gate's means as metrics of a run, and its folder as artifacts."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(f"gate/{method}/{scale}/{name}", value, now, 0)
        for method, scales in verdict.means.items()
        for scale, means in scales.items()
        for name, value in means.items()
        if math.isfinite(value)
    ]
    client = MlflowClient(tracking_uri())
    client.log_batch(run_id, metrics=metrics)
    client.log_artifacts(run_id, str(folder), "evaluation")
