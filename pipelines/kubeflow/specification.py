"""Tasks as a Kubeflow pipeline: one document for the pipeline, one for what Kubernetes is told.

No secret and no address of a store stands in them: steps get both from Kubernetes Secrets.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from pipelines.kubeflow.attempts import VOLUME
from pipelines.kubeflow.demand import Demand
from pipelines.kubeflow.entrypoint import COMMAND, RUN_ID_OPTION, SOURCE
from pipelines.kubeflow.pools import Toleration
from pipelines.kubeflow.secrets import (
    DEFAULT_CONFIG_MAPS,
    Secrets,
    check_environment,
    check_secrets,
)
from tudsr.errors import SettingsError

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Cluster:
    """What all tasks share.

    Attributes:
        secrets: Kubernetes Secret to its keys, each the name of an environment variable.
        claim: PersistentVolumeClaim of the checkpoint volume, None for no volume.
        mount: where it is mounted.
        user, group: ids of the steps' processes.
        labels: labels of every pod.
        config_maps: ConfigMap to its keys, likewise.
        retry_delay_s: wait before the first retry, doubled for each further one, seconds.
    """

    secrets: Secrets
    claim: str | None
    mount: str = "/var/tudsr"
    user: int = 1000
    group: int = 1000
    labels: Mapping[str, str] = field(default_factory=dict)
    retry_delay_s: int = 60
    config_maps: Secrets = field(default_factory=lambda: DEFAULT_CONFIG_MAPS)


@dataclass(frozen=True)
class Task:
    """One step as a task.

    Attributes:
        after: names of the steps it waits for.
        image: the container's image, by digest.
        environment: plain variables; secrets come from ``Cluster.secrets``.
        pod: what ZenML's ``pod_settings`` say beyond the pool, see ``pods.PodExtras``.
    """

    name: str
    after: tuple[str, ...]
    image: str
    demand: Demand
    environment: Mapping[str, str]
    pod: Any = None

    def check(self, cluster: Cluster) -> None:
        """Refuse what could only fail on the cluster.

        Raises:
            SettingsError: an image without digest, a secret among the variables, retries without a
                volume, or a demand that no node can meet.
        """
        self.demand.check()
        if not _DIGEST.fullmatch(self.image):
            raise SettingsError(
                f"{self.name} would run image {self.image!r}, which is not fixed by its digest: "
                "what it names may change between two attempts. Give NAME@sha256:..., as "
                "`tudsr images` records it"
            )
        check_environment(self.name, self.environment)
        if self.demand.retries and not cluster.claim:
            raise SettingsError(
                f"{self.name} has {self.demand.retries} retries but no checkpoint volume to go on "
                "from. Set checkpoint_claim of the orchestrator, or retries to 0"
            )


def write_specification(
    name: str, tasks: Sequence[Task], cluster: Cluster, file: Path, snapshot_id: str | None = None
) -> None:
    """Write both documents as YAML.

    Args:
        name: the pipeline's name, lower case letters, digits and dashes.
        tasks: in topological order.
        snapshot_id: what the parameter of this name is by default; with None it must be given when
            a run is started.

    Raises:
        SettingsError: see ``Task.check`` and ``check_secrets``; nothing is written.
    """
    check_secrets(cluster.secrets)
    for task in tasks:
        task.check(cluster)
    file.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(_pipeline(name, tasks, cluster, snapshot_id), str(file))


def _pipeline(name: str, tasks: Sequence[Task], cluster: Cluster, default: str | None) -> Any:
    def steps(snapshot_id: str) -> None:
        made: dict[str, dsl.PipelineTask] = {}
        for task in tasks:
            component = _component(task.name, task.image)
            one = component(snapshot_id=snapshot_id, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
            one.after(*(made[before] for before in task.after))
            _tell_kubeflow(one, task, cluster)
            _tell_kubernetes(one, task, cluster)
            made[task.name] = one

    if default is not None:
        steps.__defaults__ = (default,)
    return dsl.pipeline(name=name)(steps)


def _component(name: str, image: str) -> Any:
    """A container that runs ZenML's entrypoint; its task takes the function's name."""

    def container(snapshot_id: str, run_id: str):
        options = {"entrypoint_config_source": SOURCE, "snapshot_id": snapshot_id}
        options |= {"step_name": name, RUN_ID_OPTION: run_id}
        arguments: list[Any] = [p for key, value in options.items() for p in (f"--{key}", value)]
        return dsl.ContainerSpec(image=image, command=list(COMMAND), args=arguments)

    container.__name__ = container.__qualname__ = name
    return dsl.container_component(container)


def _tell_kubeflow(one: dsl.PipelineTask, task: Task, cluster: Cluster) -> None:
    """Name, cache, resources, retries and variables: fields of the pipeline's document."""
    demand = task.demand
    one.set_display_name(task.name)
    one.set_caching_options(enable_caching=False)  # ZenML's cache knows what Kubeflow's does not
    one.set_cpu_request(demand.cpu_quantity).set_cpu_limit(demand.cpu_quantity)
    one.set_memory_request(demand.memory_quantity).set_memory_limit(demand.memory_quantity)
    if demand.gpus:
        one.set_accelerator_type(demand.pool.gpu_resource).set_accelerator_limit(demand.gpus)
    if demand.retries:
        one.set_retry(
            demand.retries,
            backoff_duration=f"{cluster.retry_delay_s}s",
            backoff_factor=2.0,
            backoff_max_duration="3600s",
        )
    variables = dict(task.environment) | ({VOLUME: cluster.mount} if cluster.claim else {})
    for key, value in sorted(variables.items()):
        one.set_env_variable(key, value)


def _tell_kubernetes(one: dsl.PipelineTask, task: Task, cluster: Cluster) -> None:
    """Pool, volumes, secrets, user and labels: fields of the platform's document."""
    demand, pool = task.demand, task.demand.pool
    selector = {**pool.node_selector, **(task.pod.node_selectors if task.pod else {})}
    for key, value in selector.items():
        kubernetes.add_node_selector(one, key, value)
    _add_affinity(one, pool.node_affinity, task)
    for toleration in [*pool.tolerations, *(task.pod.tolerations if task.pod else [])]:
        _add_toleration(one, toleration)
    if demand.shm_gib:
        kubernetes.empty_dir_mount(one, "shm", "/dev/shm", "Memory", demand.shm_quantity)
    if cluster.claim:
        kubernetes.mount_pvc(one, cluster.claim, cluster.mount)
    for name, keys in cluster.secrets.items():
        kubernetes.use_secret_as_env(one, name, {key: key for key in keys})
    for name, keys in cluster.config_maps.items():
        kubernetes.use_config_map_as_env(one, name, {key: key for key in keys})
    kubernetes.set_timeout(one, demand.timeout_s)
    kubernetes.set_security_context(one, cluster.user, cluster.group, run_as_non_root=True)
    labels = {
        "app.kubernetes.io/name": "tudsr",
        "app.kubernetes.io/component": task.name,
        "tudsr.dev/pool": demand.pool_name,
        **cluster.labels,
        **(task.pod.labels if task.pod else {}),
    }
    for key, value in labels.items():
        kubernetes.add_pod_label(one, key, value)
    for key, value in (task.pod.annotations if task.pod else {}).items():
        kubernetes.add_pod_annotation(one, key, value)


def _add_affinity(one: dsl.PipelineTask, affinity: Mapping[str, list[str]], task: Task) -> None:
    terms = [{"key": key, "operator": "In", "values": v} for key, v in affinity.items()]
    terms += task.pod.node_expressions if task.pod else []
    if terms:
        kubernetes.add_node_affinity(one, match_expressions=terms)


def _add_toleration(one: dsl.PipelineTask, toleration: Toleration) -> None:
    kubernetes.add_toleration(
        one,
        key=toleration.key,
        operator=toleration.operator,
        value=toleration.value,
        effect=toleration.effect,
        toleration_seconds=toleration.toleration_seconds,
    )
