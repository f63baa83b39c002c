"""What must be true before anything is changed: images, manifests, Secrets, versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from deploy.cluster import Cluster, ClusterError
from deploy.images import IMAGES, K8S, has_digest
from deploy.lint import check
from deploy.manifests import Manifest, containers, pod_templates, render, render_folder
from tudsr.errors import RegistryError, SettingsError

BESIDE = ("training", "queues")
"""Folders of objects that are applied apart from the overlays; references go between them."""
MODEL_NAME = "tudsr"
Secrets = dict[str, dict[str, str]]


def documented_secrets(k8s: Path = K8S) -> Secrets:
    """Secrets that must exist, to their keys, to what each is for: ``k8s/secrets.yaml``."""
    return yaml.safe_load((k8s / "secrets.yaml").read_text(encoding="utf-8"))


def deployable(overlay: str, k8s: Path = K8S) -> list[Manifest]:
    """An overlay's objects, after every check that needs no cluster.

    Raises:
        SettingsError: images without digests, or a fault that the lint found.
    """
    objects = render(overlay, k8s)
    beside = [one for name in BESIDE for one in render_folder(k8s / name)]
    _require_digests([*objects, *beside])
    findings = check([*objects, *beside], documented_secrets(k8s))
    if findings:
        told = "\n".join(f"  {finding}" for finding in findings)
        raise SettingsError(f"k8s/overlays/{overlay} has faults:\n{told}")
    return objects


def require_secrets(cluster: Cluster, namespace: str, k8s: Path = K8S) -> None:
    """Refuse while a Secret or a key in it is missing, with the lines that make them.

    Raises:
        ClusterError: the namespace or a Secret is missing.
    """
    lines: list[str] = []
    if cluster.get("v1", "Namespace", namespace) is None:
        lines.append("kubectl apply -f k8s/base/namespace.yaml")
    for name, keys in documented_secrets(k8s).items():
        live = cluster.get("v1", "Secret", name, namespace)
        if live is None or not keys.keys() <= (live.get("data") or {}).keys():
            lines.append(_creation(name, list(keys), namespace))
    if lines:
        raise ClusterError(
            "missing in the cluster; k8s/secrets.yaml says what each is for. Make them, then "
            "repeat:\n" + "\n".join(f"  {line}" for line in lines)
        )


def require_version(version: str) -> None:
    """Refuse a version that is not registered or did not pass the gate.

    Raises:
        RegistryError: it may not be served, or MLflow cannot be reached.
    """
    from tudsr.release.registry import list_versions

    found = {v.version: v for v in list_versions(MODEL_NAME)}
    if version not in found:
        known = ", ".join(found) or "none; is MLFLOW_TRACKING_URI the cluster's MLflow?"
        raise RegistryError(f"there is no version {version} of {MODEL_NAME}. Versions: {known}")
    if found[version].tags.get("gate") != "open":
        raise RegistryError(
            f"version {version} did not pass the gate: only `tudsr models` lists it"
        )


def _require_digests(objects: Sequence[Manifest]) -> None:
    used = {
        str(container.get("image", ""))
        for manifest in objects
        for _, template in pod_templates(manifest)
        for container in containers(template)
    }
    bare = sorted(image for image in used if not has_digest(image))
    if bare:
        names = {image.manifest_name: image.name for image in IMAGES}
        missing = ", ".join(names.get(image, image) for image in bare)
        raise SettingsError(
            f"images without a digest: {missing}. What a tag names may change under a running "
            "service. `tudsr images` prints how to build them and record their digests"
        )


def _creation(name: str, keys: Sequence[str], namespace: str) -> str:
    head = f"kubectl -n {namespace} create secret"
    if set(keys) == {"tls.crt", "tls.key"}:
        return f"{head} tls {name} --cert=FILE --key=FILE"
    values = " ".join(f"--from-literal={key}=..." for key in keys)
    return f"{head} generic {name} {values}"
