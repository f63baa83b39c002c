"""Inside a pod: quantities, volumes, ports and Pod Security `restricted`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from deploy.lint.finding import Finding
from deploy.manifests import Manifest, containers, label, pod_templates

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?"
)
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def parse_quantity(text: Any) -> Decimal:
    """A quantity's value.

    Raises:
        ValueError: not a quantity.
    """
    from kubernetes.utils.quantity import parse_quantity as parse

    if not _QUANTITY.fullmatch(str(text)):
        raise ValueError(f"{text!r} is not a quantity")
    return parse(str(text))


def quantities(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Resources, sizes and quotas are quantities; requests are within limits; bytes are whole."""
    for one in objects:
        for path, resources in _resource_blocks(one, ""):
            for what in _resource_faults(resources):
                yield Finding(label(one), "quantities", f"{path}: {what}")
        for path, text in _sizes(one, ""):
            for what in _faults(path.rpartition(".")[2], text):
                yield Finding(label(one), "quantities", f"{path}: {what}")


def volumes(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Mounts name volumes that are there, no path is mounted twice, no volume lies unused."""
    for one in objects:
        claims = {
            c["metadata"]["name"] for c in one.get("spec", {}).get("volumeClaimTemplates", [])
        }
        for where, template in pod_templates(one):
            there = {v["name"] for v in template["spec"].get("volumes", [])}
            used: set[str] = set()
            for container in containers(template):
                mounts = container.get("volumeMounts", [])
                used |= {m["name"] for m in mounts}
                paths = [m["mountPath"] for m in mounts]
                for path in sorted({p for p in paths if paths.count(p) > 1}):
                    yield Finding(where, "volumes", f"{path} is mounted twice")
            for name in sorted(used - there - claims):
                yield Finding(where, "volumes", f"volume {name!r} is mounted but not there")
            for name in sorted(there - used):
                yield Finding(where, "volumes", f"volume {name!r} is there but mounted nowhere")


def ports(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Probes ask a port that the container has."""
    for one in objects:
        for where, template in pod_templates(one):
            for container in containers(template):
                known = named_ports(container)
                for probe in _PROBES:
                    action = container.get(probe, {})
                    port = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
                    if port is not None and port not in known:
                        yield Finding(
                            where, "ports", f"{probe} asks port {port!r}, which is not one"
                        )


def named_ports(container: Manifest) -> set[str | int]:
    """A container's ports, by number and by name."""
    listed = container.get("ports", [])
    return {p["containerPort"] for p in listed} | {p["name"] for p in listed if "name" in p}


def restricted(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """What Pod Security `restricted` asks for, and a read-only root file system."""
    for one in objects:
        for where, template in pod_templates(one):
            spec = template["spec"]
            pod = spec.get("securityContext", {})
            for what in _pod_faults(spec, pod):
                yield Finding(where, "restricted", what)
            for container in containers(template):
                for what in _container_faults(container, pod):
                    yield Finding(where, "restricted", f"{container['name']}: {what}")


def _pod_faults(spec: Manifest, pod: Manifest) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is not allowed"
    if pod.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "securityContext.seccompProfile.type must be RuntimeDefault"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - _RESTRICTED_VOLUMES - {"name"}:
            yield f"volume {volume['name']!r} is a {kind}, which is not allowed"


def _container_faults(container: Manifest, pod: Manifest) -> Iterator[str]:
    own = container.get("securityContext", {})
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield "runAsNonRoot must be true"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "runAsUser is 0, which is root"
    if own.get("privileged"):
        yield "privileged is not allowed"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation must be false"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities.drop must have ALL"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add may only have NET_BIND_SERVICE"
    if not own.get("readOnlyRootFilesystem"):
        yield "readOnlyRootFilesystem must be true"


def _resource_blocks(value: Any, path: str) -> Iterator[tuple[str, Manifest]]:
    """Every ``{requests, limits}`` in an object, with its path."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _resource_blocks(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in {"resources", "resourcesPerNode"} and isinstance(inner, dict):
                yield f"{path}.{key}".lstrip("."), inner
            yield from _resource_blocks(inner, f"{path}.{key}")


def _resource_faults(resources: Manifest) -> Iterator[str]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    bad = False
    for kind, given in (("requests", requests), ("limits", limits)):
        for name, text in given.items():
            for what in _faults(name, text):
                bad = True
                yield f"{kind}.{name}: {what}"
    for name in requests.keys() & limits.keys() if not bad else ():
        if parse_quantity(requests[name]) > parse_quantity(limits[name]):
            yield f"requests.{name} {requests[name]} is over limits.{name} {limits[name]}"


def _sizes(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _sizes(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            here = f"{path}.{key}".lstrip(".")
            if key in {"sizeLimit", "nominalQuota", "borrowingLimit", "lendingLimit"}:
                yield here, inner
            yield from _sizes(inner, here)


def _faults(name: str, text: Any) -> Iterator[str]:
    try:
        value = parse_quantity(text)
    except ValueError as error:
        yield str(error)
        return
    if value < 0:
        yield f"{text} is negative"
    if name in {"memory", "storage", "ephemeral-storage", "sizeLimit"} and value % 1:
        yield f"{text} is a fraction of a byte: is Mi meant?"
    if "/" in name and value % 1:
        yield f"{text} is a fraction of a device"
