"""Starting a run or a schedule of a written specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.kubeflow.api import created, tried_again

if TYPE_CHECKING:
    from zenml.models import PipelineSnapshotResponse


def start_run(client: Any, file: Path, name: str, pipeline: str, namespace: str | None) -> str:
    """Start one run in the experiment of the pipeline's name; returns the run's id."""
    experiment = _experiment(client, pipeline, namespace)

    def create() -> str:
        run = client.run_pipeline(experiment, name, pipeline_package_path=str(file))
        return str(run.run_id)

    return created(client, experiment, name, create)


def start_schedule(
    client: Any, file: Path, name: str, snapshot: PipelineSnapshotResponse, namespace: str | None
) -> str:
    """Start a recurring run as ZenML's schedule says; returns its id."""
    schedule = snapshot.schedule
    assert schedule is not None
    experiment = _experiment(client, snapshot.pipeline_configuration.name, namespace)
    interval = schedule.interval_second
    made = client.create_recurring_run(
        experiment_id=experiment,
        job_name=name,
        pipeline_package_path=str(file),
        cron_expression=_with_seconds(schedule.cron_expression),
        interval_second=interval and int(interval.total_seconds()),
        start_time=schedule.utc_start_time,
        end_time=schedule.utc_end_time,
        no_catchup=not schedule.catchup,
        max_concurrency=1,
    )
    return str(made.recurring_run_id)


def _with_seconds(cron: str | None) -> str | None:
    """Kubeflow's cron has a field for seconds first; ZenML's, the usual one, has not."""
    return f"0 {cron}" if cron and len(cron.split()) == 5 else cron


def _experiment(client: Any, name: str, namespace: str | None) -> str:
    """The experiment's id; made if there is none. May be asked twice: Kubeflow makes one a name."""
    found = tried_again(lambda: client.create_experiment(name, namespace=namespace))
    return str(found.experiment_id)
