"""ZenML's steps as tasks: the settings of each, resolved against the pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from zenml.config.resource_settings import ResourceSettings

from pipelines.kubeflow.demand import Demand
from pipelines.kubeflow.flavor import PoolsSettings
from pipelines.kubeflow.pods import pod_extras
from pipelines.kubeflow.pools import Pools
from pipelines.kubeflow.secrets import plain_environment
from pipelines.kubeflow.specification import Task
from tudsr.errors import SettingsError

if TYPE_CHECKING:
    from zenml.models import PipelineSnapshotResponse

    from pipelines.kubeflow.orchestrator import PoolsOrchestrator

_DEFAULT_CPUS, _DEFAULT_MEMORY_GIB = 2.0, 8.0


def tasks_of(
    orchestrator: PoolsOrchestrator,
    snapshot: PipelineSnapshotResponse,
    environments: Mapping[str, Mapping[str, str]],
    pools: Pools,
) -> list[Task]:
    """The tasks of a snapshot in topological order.

    Steps that ZenML took from its cache are no longer in the snapshot, nor waited for.

    Raises:
        SettingsError: an unknown pool, a pod setting that Kubeflow cannot pass on.
    """
    steps = snapshot.step_configurations
    waits = {
        name: tuple(s for s in steps[name].spec.upstream_steps if s in steps) for name in steps
    }
    made: list[Task] = []
    for name in in_order(waits):
        config = steps[name].config
        settings = cast(PoolsSettings, orchestrator.get_settings(steps[name]))
        retries = config.retry.max_retries if config.retry else 0
        made.append(
            Task(
                name=name,
                after=waits[name],
                image=orchestrator.get_image(snapshot, name),
                demand=demand_of(name, config.resource_settings, settings, retries, pools),
                environment=plain_environment(environments[name]),
                pod=pod_extras(name, settings.pod_settings),
            )
        )
    return made


def demand_of(
    step: str, resources: ResourceSettings, settings: PoolsSettings, retries: int, pools: Pools
) -> Demand:
    """ZenML's resources and this flavor's settings together."""
    memory = resources.get_memory("GiB")
    return Demand(
        step=step,
        pool_name=settings.pool,
        pool=pools.find(settings.pool, step),
        gpus=resources.gpu_count or 0,
        cpus=resources.cpu_count or _DEFAULT_CPUS,
        memory_gib=_DEFAULT_MEMORY_GIB if memory is None else memory,
        shm_gib=settings.shm_gib,
        retries=retries,
        timeout_s=settings.timeout_s,
    )


def in_order(waits: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Names so that each comes after those it waits for.

    Raises:
        SettingsError: they wait for each other.
    """
    done: set[str] = set()
    while len(done) < len(waits):
        ready = [n for n in waits if n not in done and done.issuperset(waits[n])]
        if not ready:
            raise SettingsError(f"steps wait for each other: {sorted(set(waits) - done)}")
        for name in ready:
            done.add(name)
            yield name
