"""Waiting until workloads are ready, and saying why they are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.cluster import Cluster, ClusterError, UnreachableError
from deploy.manifests import Manifest, label

Report = Callable[["Progress"], None]
_POLL_S = 2.0
_HOPELESS = {"CrashLoopBackOff", "CreateContainerConfigError", "InvalidImageName"}
_REVISION = "deployment.kubernetes.io/revision"


class RolloutError(ClusterError):
    """Pods did not become ready."""


@dataclass(frozen=True)
class Progress:
    """How far a workload is.

    Attributes:
        name: ``Kind/name``.
        ready: pods of the new kind that are ready.
        wanted: pods that are to be.
        done: ready, and none of the old kind is left.
        failure: why it will not get there, by Kubernetes' own judgement; empty while it may.
    """

    name: str
    ready: int
    wanted: int
    done: bool
    failure: str = ""


def is_workload(manifest: Manifest) -> bool:
    """Whether there is something to wait for."""
    return manifest["kind"] in {"Deployment", "StatefulSet"}


def progress_of(live: Manifest) -> Progress:
    """How far a Deployment or StatefulSet is, by its status."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    wanted = spec.get("replicas", 1)
    name = label(live)
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 1):
        return Progress(name, 0, wanted, False)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    ready = min(updated, status.get("availableReplicas", 0))
    failure = ""
    for condition in status.get("conditions") or []:
        if condition.get("reason") == "ProgressDeadlineExceeded" and condition["status"] == "False":
            failure = condition.get("message") or "its progress deadline has passed"
    return Progress(name, ready, wanted, ready == wanted == updated == total, failure)


def wait(
    cluster: Cluster,
    workloads: Sequence[Manifest],
    timeout_s: float,
    report: Report,
) -> None:
    """Return when all are ready. An API that is silent for a while is asked again.

    Raises:
        RolloutError: one cannot become ready, or did not in ``timeout_s``.
        ClusterError: the API refuses to say.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(workloads)
    while waiting:
        silent = ""
        try:
            waiting = [w for w in waiting if not _is_ready(cluster, w, report)]
        except UnreachableError as error:
            silent = f" {error}"
        if waiting and time.monotonic() > deadline:
            told = "; ".join(f"{label(w)}{_why(cluster, w)}" for w in waiting)
            raise RolloutError(f"not ready after {timeout_s:g} s: {told}.{silent}")
        if waiting:
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic()) + 0.01))


def _is_ready(cluster: Cluster, workload: Manifest, report: Report) -> bool:
    live = cluster.live(workload)
    if live is None:
        raise RolloutError(f"{label(workload)} was removed while it was waited for")
    now = progress_of(live)
    report(now)
    if now.failure:
        raise RolloutError(f"{now.name}: {now.failure}{_why(cluster, workload)}")
    hopeless = [said for reason, said in _troubles(cluster, live) if reason in _HOPELESS]
    if hopeless and not now.done:
        raise RolloutError(f"{now.name}: {'; '.join(hopeless)}")
    return now.done


def _why(cluster: Cluster, workload: Manifest) -> str:
    """What keeps the pods from being ready, in brackets; empty where that cannot be learned."""
    try:
        live = cluster.live(workload)
        said = sorted({text for _, text in _troubles(cluster, live)}) if live else []
    except ClusterError:
        return ""
    return f" ({'; '.join(said)})" if said else ""


def _troubles(cluster: Cluster, live: Manifest) -> list[tuple[str, str]]:
    """(reason, sentence) for each new pod that does not run; pods of older kinds do not count."""
    found: list[tuple[str, str]] = []
    for pod in _newest_pods(cluster, live):
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for state in status.get("containerStatuses") or []:
            waiting = (state.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if reason not in {"", "ContainerCreating", "PodInitializing"}:
                found.append((reason, f"{name}: {reason} {waiting.get('message', '')}".strip()))
        for condition in status.get("conditions") or []:
            if condition.get("reason") == "Unschedulable":
                found.append(("Unschedulable", f"{name}: {condition.get('message', '')}"))
    return found


def _newest_pods(cluster: Cluster, live: Manifest) -> list[Manifest]:
    namespace = live["metadata"]["namespace"]
    labels = dict(live["spec"]["selector"]["matchLabels"])
    if live["kind"] == "Deployment":
        revision = live["metadata"].get("annotations", {}).get(_REVISION)
        for replica_set in cluster.listed("apps/v1", "ReplicaSet", namespace, labels):
            meta = replica_set["metadata"]
            if revision and meta.get("annotations", {}).get(_REVISION) == revision:
                labels["pod-template-hash"] = meta["labels"]["pod-template-hash"]
    return cluster.listed("v1", "Pod", namespace, labels)
