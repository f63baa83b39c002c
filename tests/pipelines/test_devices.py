"""`runtime.devices: 2` in a profile: the pipeline's step starts two processes, as the docs say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.test_full import _newest_run, _restore
from tudsr.train.record import read_metrics

PROFILE = """
extends: smoke
runtime: {device: cpu, devices: 2}
stage1: {log_every: 4}
"""
FIGURES = """
import json, mlflow
from tudsr.tracking import tracking_uri
c = mlflow.MlflowClient(tracking_uri())
runs = c.search_runs([e.experiment_id for e in c.search_experiments()], order_by=["start_time"])
print(json.dumps([
    {key: [m.step for m in c.get_metric_history(r.info.run_id, key)] for key in r.data.metrics}
    for r in runs
]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # ten minutes where eight others share two cores
def test_two_processes_train_from_the_step_and_their_figures_are_in_mlflow(
    project, environment, tmp_path
):
    """Stage 1 is shared; `smoke`'s stage 2 has one image a step, and the two say that they are."""
    (project / "data" / "train").mkdir(exist_ok=True)
    _restore(project / "data" / "train")
    profile, run = tmp_path / "two.yaml", tmp_path / "run-two.yaml"
    profile.write_text(PROFILE, "utf-8")
    run.write_text(f"parameters: {{profile: {profile}}}\n", "utf-8")
    zenml = str(Path(sys.executable).with_name("zenml"))
    command = [zenml, "pipeline", "run", "tudsr_full", "-c", str(run)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, said[-4000:]
    told = r"rank [01] failed: stage 2: an optimizer step is 1 micro-batches of 1 images"
    assert re.search(told, said), "whichever is first"
    assert "which 2 ranks cannot share" in said
    steps = _newest_run(project, environment)
    assert (steps["train_stage1"], steps["train_stage2"]) == ("completed", "failed")
    figures = _steps_seen(project, environment)[-1]
    assert figures["stage1/loss_l1"] == [4, 8, 12, 16]
    assert figures["stage1/loss_critic"] == [8, 12, 16], "after `l1_only_images`"
    rows = read_metrics(project / "outputs" / "train" / "adapter1" / "metrics.jsonl")
    assert [row["images_seen"] for row in rows] == [4, 8, 12, 16]


def _steps_seen(project, environment) -> list[dict[str, list[int]]]:
    """Images seen at each figure, by its name, for each MLflow run from the oldest on."""
    told = subprocess.run(
        [sys.executable, "-c", FIGURES],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout.strip().splitlines()[-1])
