"""``python -m deploy.gates OUT``: every gate on the manifests that needs no cluster.

Renders each overlay and the training jobs with placeholder digests, holds them against schemas and
lint, and leaves the rendered files in OUT for checkov. Exit code 1 with the faults, if any.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.images import IMAGES, K8S, record
from deploy.lint import check
from deploy.manifests import Manifest, overlays, read, render, render_folder
from deploy.preflight import BESIDE, documented_secrets
from deploy.schemas import faults
from tudsr.errors import SettingsError
from tudsr.images.atomic import write_text

PLACEHOLDER = "sha256:" + "0" * 64
"""No registry has it. Used wherever manifests are judged before any image was built."""


def with_placeholders(k8s: Path, copy: Path) -> Path:
    """A copy of the manifests in which images without a digest have the placeholder."""
    shutil.copytree(k8s, copy)
    names = [image.name for image in IMAGES]
    record([f"{name}=placeholder.invalid/{name}@{PLACEHOLDER}" for name in names], copy)
    return copy


def rendered(k8s: Path) -> dict[str, list[Manifest]]:
    """Each overlay's objects, the training jobs' and the quotas'."""
    made = {overlay: render(overlay, k8s) for overlay in overlays(k8s)}
    return {**made, **{name: render_folder(k8s / name) for name in BESIDE}}


def judge(sets: dict[str, list[Manifest]], k8s: Path) -> list[str]:
    """All faults of rendered manifests."""
    found = [fault for objects in sets.values() for one in objects for fault in faults(one)]
    for name, objects in sets.items():
        if name not in BESIDE:
            whole = [*objects, *(one for beside in BESIDE for one in sets[beside])]
            found += [f"{name}: {finding}" for finding in check(whole, documented_secrets(k8s))]
    return found


def twice_in_sources(k8s: Path) -> list[str]:
    """Faults of the files themselves that rendering hides: kustomize keeps the last of two keys."""
    found: list[str] = []
    for file in sorted(k8s.rglob("*.yaml")):
        if file.name in {"pools.yaml", "secrets.yaml", "checkov.yaml"}:
            continue  # not Kubernetes'
        try:
            read(file.read_text(encoding="utf-8"), str(file.relative_to(k8s)))
        except SettingsError as error:
            found.append(str(error))
    return found


def main(arguments: Sequence[str]) -> int:
    """Judge ``k8s/``; the rendered files go into the folder that is given."""
    out = Path(arguments[0]) if arguments else None
    with tempfile.TemporaryDirectory() as folder:
        copy = with_placeholders(K8S, Path(folder) / "k8s")
        found = twice_in_sources(copy)
        sets = rendered(copy)
        found += judge(sets, copy)
    if out is not None:
        for name, objects in sets.items():
            write_text(out / f"{name}.yaml", _dump(objects))
    for fault in found:
        print(fault)
    count = {name: len(objects) for name, objects in sets.items()}
    print(f"{count}: {len(found) or 'no'} faults")
    return 1 if found else 0


def _dump(objects: Sequence[Manifest]) -> str:
    import yaml

    return yaml.safe_dump_all(objects, sort_keys=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
