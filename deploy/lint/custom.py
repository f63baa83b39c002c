"""Custom resources name things that are there: routes, monitors, queues, training jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.lint.finding import Finding
from deploy.lint.selectors import matches
from deploy.manifests import Manifest, label

_CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", "ClusterTrainingRuntime"}
_QUEUE = "kueue.x-k8s.io/queue-name"


def routes(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """An HTTPRoute's gateway, its listener, its Services and their ports are there."""
    gateways = _by_name(objects, "Gateway")
    ports = {
        name: {p["port"] for p in one["spec"]["ports"]}
        for name, one in _by_name(objects, "Service").items()
    }
    for one in objects:
        if one["kind"] != "HTTPRoute":
            continue
        for parent in one["spec"].get("parentRefs", []):
            gateway = gateways.get(parent["name"])
            names = {li["name"] for li in gateway["spec"]["listeners"]} if gateway else set()
            if gateway is None or parent.get("sectionName", next(iter(names))) not in names:
                yield Finding(label(one), "routes", f"gateway {parent} is not there")
        for rule in one["spec"].get("rules", []):
            backends = rule.get("backendRefs", [])
            for backend in backends:
                if backend.get("port") not in ports.get(backend["name"], set()):
                    yield Finding(label(one), "routes", f"no Service has {backend}")
            if backends and not sum(b.get("weight", 1) for b in backends):
                yield Finding(label(one), "routes", "all weights are 0: nobody would answer")


def monitors(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A ServiceMonitor finds Services that have its port."""
    for one in objects:
        if one["kind"] != "ServiceMonitor":
            continue
        found = [
            service
            for service in _by_name(objects, "Service").values()
            if matches(one["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        if not found:
            yield Finding(label(one), "monitors", "selector finds no Service")
        for endpoint in one["spec"]["endpoints"]:
            for service in found:
                if endpoint["port"] not in {p.get("name") for p in service["spec"]["ports"]}:
                    what = f"{label(service)} has no port named {endpoint['port']!r}"
                    yield Finding(label(one), "monitors", what)


def queues(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Queues and flavors that are named are there; flavors have quotas for all that is covered."""
    clusters, flavors = _by_name(objects, "ClusterQueue"), _by_name(objects, "ResourceFlavor")
    local = _by_name(objects, "LocalQueue")
    for one in objects:
        queue = one["metadata"].get("labels", {}).get(_QUEUE)
        if queue is not None and queue not in local:
            yield Finding(label(one), "queues", f"LocalQueue {queue!r} is not there")
        if one["kind"] == "LocalQueue" and one["spec"]["clusterQueue"] not in clusters:
            what = f"ClusterQueue {one['spec']['clusterQueue']!r} is not there"
            yield Finding(label(one), "queues", what)
    for one in clusters.values():
        for group in one["spec"].get("resourceGroups", []):
            for flavor in group["flavors"]:
                if flavor["name"] not in flavors:
                    what = f"ResourceFlavor {flavor['name']!r} is not there"
                    yield Finding(label(one), "queues", what)
                if [r["name"] for r in flavor["resources"]] != group["coveredResources"]:
                    what = f"{flavor['name']} must give quotas for {group['coveredResources']}"
                    yield Finding(label(one), "queues", what)


def scopes(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """What is cluster-wide has no namespace; kustomize gives one to kinds that it does not know."""
    for one in objects:
        if one["kind"] in _CLUSTER_WIDE and "namespace" in one["metadata"]:
            yield Finding(label(one), "scopes", "is cluster-wide and cannot have a namespace")


def training(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """A TrainJob's runtime is there and has a pod for the trainer; GPUs are limits as requested."""
    runtimes = _by_name(objects, "TrainingRuntime")
    for one in objects:
        if one["kind"] != "TrainJob":
            continue
        spec = one["spec"]
        if spec["runtimeRef"]["name"] not in runtimes:
            what = f"TrainingRuntime {spec['runtimeRef']['name']!r} is not there"
            yield Finding(label(one), "training", what)
        per_node = (spec.get("trainer") or {}).get("resourcesPerNode") or {}
        asked = [str((per_node.get(k) or {}).get("nvidia.com/gpu")) for k in ("requests", "limits")]
        if asked[0] != asked[1]:
            yield Finding(label(one), "training", f"GPU request {asked[0]} is not limit {asked[1]}")


def _by_name(objects: Sequence[Manifest], kind: str) -> dict[str, Manifest]:
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}
