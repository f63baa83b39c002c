"""What a step needs to know about the run it is in."""

from __future__ import annotations

from zenml import get_step_context

from tudsr.profile import RegistrySettings
from tudsr.train.record import MlflowRecorder


def mlflow_run(settings: RegistrySettings) -> str:
    """The MLflow run of this pipeline run."""
    from tudsr.tracking import run_for

    return run_for(get_step_context().pipeline_run.name, settings.experiment)


def recorder(prefix: str, settings: RegistrySettings) -> MlflowRecorder:
    """Figures and sample pictures of this step, to the pipeline run's MLflow run."""
    return MlflowRecorder(get_step_context().pipeline_run.name, settings.experiment, prefix)
