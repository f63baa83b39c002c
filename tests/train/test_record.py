"""Figures go to MLflow while it answers; where it does not, training goes on and says so once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from mlflow import MlflowClient

from tudsr.tracking import run_for, tracking_uri
from tudsr.train import record
from tudsr.train.record import MlflowRecorder


@pytest.fixture
def nobody(monkeypatch):
    """An address where nothing listens."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_silent_mlflow_stops_no_training_and_is_told_once(nobody, monkeypatch, caplog):
    monkeypatch.setattr(record, "_REST_S", 0)
    recorder = MlflowRecorder("run 1", "tests", "stage1")
    with caplog.at_level(logging.WARNING, "tudsr.train"):
        recorder.log(8, {"loss_l1": 0.5})
        recorder.picture(8, "sample", np.zeros((8, 8, 3), np.float32))
        recorder.finish()
    (told,) = [r.getMessage() for r in caplog.records if r.name == "tudsr.train"]
    assert "metrics.jsonl has all" in told and "127.0.0.1" in told and "secret" not in told


def test_figures_come_again_once_it_answers(nobody, monkeypatch):
    recorder = MlflowRecorder("run 1", "tests", "stage1")
    recorder.log(8, {"loss_l1": 0.5})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    recorder.log(16, {"loss_l1": 0.4})
    monkeypatch.setattr(recorder, "_resting_until", 0.0)
    recorder.log(24, {"loss_l1": 0.3})
    recorder.finish()
    run = MlflowClient(tracking_uri()).get_run(run_for("run 1", "tests"))
    assert run.info.status == "FINISHED"
    history = MlflowClient(tracking_uri()).get_metric_history(run.info.run_id, "stage1/loss_l1")
    assert [(m.step, m.value) for m in history] == [(24, 0.3)]
