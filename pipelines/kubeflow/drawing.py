"""A pipeline without a cluster, a server or data: its steps as they would be submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenml.config.resource_settings import ResourceSettings

from pipelines.kubeflow.flavor import PoolsSettings
from pipelines.kubeflow.pools import Pools
from pipelines.kubeflow.specification import Task
from pipelines.kubeflow.tasks import demand_of, in_order
from pipelines.placement import FLAVOR, drawing

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline


def draw(pipeline: Pipeline, profile: str, image: str, pools: Pools) -> list[Task]:
    """The tasks of a pipeline with a profile, in topological order.

    Raises:
        SettingsError: no such profile, or an unknown pool.
    """
    with drawing():
        pipeline.prepare(profile=profile)
    steps = pipeline.invocations
    waits = {name: tuple(sorted(step.upstream_steps)) for name, step in steps.items()}
    made: list[Task] = []
    for name in in_order(waits):
        config = steps[name].step.configuration
        settings = PoolsSettings(**dict(config.settings.get(f"orchestrator.{FLAVOR}") or {}))
        retries = config.retry.max_retries if config.retry else 0
        resources = ResourceSettings(**dict(config.settings.get("resources") or {}))
        demand = demand_of(name, resources, settings, retries, pools)
        made.append(Task(name, waits[name], image, demand, environment={}))
    return made
