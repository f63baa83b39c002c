"""Step 7: a version in the MLflow registry, alias ``challenger``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from zenml import get_step_context, log_metadata, step

from steps.context import mlflow_run
from tudsr.profile import RegistrySettings
from tudsr.release.gate import Verdict


@step(enable_cache=False)
def register_model(
    settings: RegistrySettings, bundle: Path, bento: str, verdict: Verdict
) -> Annotated[str, "registered_version"]:
    """Register the bundle; the same bundle twice is one version.

    Never served from cache: only the registry itself knows what is in it.
    """
    from tudsr.release.registry import register
    from tudsr.release.summary import RunSummary, write_summary
    from tudsr.tracking import end_run

    verdict.require_open()
    context = get_step_context()
    tags = {
        "bento": bento,
        "zenml_model_version": str(context.model.number),
        "zenml_run": context.pipeline_run.name,
    }
    run = mlflow_run(settings)
    made = register(bundle, run, tags, settings)
    end_run(run)
    name = context.pipeline_run.name
    write_summary(RunSummary(run=name, model=made.name, verdict=verdict, version=made.version))
    log_metadata({"mlflow_model": made.name, "mlflow_version": made.version, "mlflow_run": run})
    return made.version
