"""Pods that ask for GPUs get to a pool that has them, and have what CUDA and NCCL need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.lint.finding import Finding
from deploy.manifests import Manifest, containers, pod_templates

_GPU = "nvidia.com/gpu"


def pools(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Request equals limit; a pool is selected, its taint put up with; shared memory is there."""
    for one in objects:
        for where, template in pod_templates(one):
            with_gpu = [c for c in containers(template) if _asked(c) != (None, None)]
            for container in with_gpu:
                request, limit = _asked(container)
                if limit is None or request not in (None, limit):
                    yield Finding(
                        where, "gpus", f"{_GPU}: request {request} is not the limit {limit}"
                    )
            if with_gpu:
                for what in _pod_faults(template["spec"], with_gpu):
                    yield Finding(where, "gpus", what)


def _asked(container: Manifest) -> tuple[str | None, str | None]:
    resources = container.get("resources", {})
    request = resources.get("requests", {}).get(_GPU)
    limit = resources.get("limits", {}).get(_GPU)
    return (None if request is None else str(request), None if limit is None else str(limit))


def _pod_faults(spec: Manifest, with_gpu: Sequence[Manifest]) -> Iterator[str]:
    if not spec.get("nodeSelector") and not spec.get("affinity", {}).get("nodeAffinity"):
        yield "asks for a GPU but selects no pool: give nodeSelector or nodeAffinity"
    if not any(t.get("key") in (_GPU, None) for t in spec.get("tolerations", [])):
        yield f"asks for a GPU but does not tolerate the taint {_GPU}"
    memory = {
        v["name"]
        for v in spec.get("volumes", [])
        if (v.get("emptyDir") or {}).get("medium") == "Memory"
    }
    for container in with_gpu:
        mounts = {
            m["name"] for m in container.get("volumeMounts", []) if m["mountPath"] == "/dev/shm"
        }
        if not mounts & memory:
            yield (
                f"{container['name']} has the runtime's 64 MiB of shared memory: mount an emptyDir "
                "of medium Memory at /dev/shm"
            )
