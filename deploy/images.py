"""Which images the manifests name, how each is built, and the digests that were recorded.

The record is a kustomize component, ``k8s/images/kustomization.yaml``: overlays read it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tudsr.errors import SettingsError
from tudsr.images.atomic import write_text
from tudsr.profile import PROJECT_ROOT

K8S = PROJECT_ROOT / "k8s"
_HEADER = """\
# The images by digest, for every overlay: what `tudsr images --set` recorded. Empty until you build
# and push them; `tudsr deploy` refuses without.
"""
_HUB = "docker.io"
_BY_DIGEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9._:/-]*)@(?P<digest>sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Image:
    """An image that the manifests use.

    Attributes:
        name: how `tudsr images --set` calls it.
        manifest_name: how the manifests call it.
        dockerfile: for one of ours, relative to the project.
        upstream: for somebody else's, where it is and a tag that fits.
    """

    name: str
    manifest_name: str
    dockerfile: str = ""
    upstream: str = ""


IMAGES = (
    Image("train", "tudsr/train", dockerfile="k8s/images/train.Dockerfile"),
    Image("serve", "tudsr/serve", dockerfile="k8s/images/serve.Dockerfile"),
    Image("mlflow", "tudsr/mlflow", dockerfile="k8s/images/mlflow.Dockerfile"),
    Image("postgres", "postgres", upstream=f"{_HUB}/library/postgres:17-alpine"),
    Image("objects", "chrislusf/seaweedfs", upstream=f"{_HUB}/chrislusf/seaweedfs:latest"),
    Image("zenml", "zenmldocker/zenml-server", upstream=f"{_HUB}/zenmldocker/zenml-server:0.98.0"),
)


def commands(registry: str) -> list[str]:
    """What to run, in order, to build, push and record all images; nothing is run here."""
    lines = [
        "# The base's digest is a required build argument; read it from its registry:",
        "BASE=python:3.12-slim@$(docker buildx imagetools inspect python:3.12-slim "
        "--format '{{.Manifest.Digest}}')",
    ]
    for image in IMAGES:
        place = f"{registry}/tudsr-{image.name}" if image.dockerfile else image.upstream
        plain, tag = _untagged(place)
        if image.dockerfile:
            tag = "build"
            lines.append(
                f'docker buildx build --push --build-arg BASE="$BASE" '
                f"-f {image.dockerfile} -t {plain}:{tag} ."
            )
        lines.append(
            f"tudsr images --set {image.name}={plain}@$(docker buildx imagetools inspect "
            f"{plain}:{tag} --format '{{{{.Manifest.Digest}}}}')"
        )
    return lines


def record(settings: Sequence[str], k8s: Path = K8S) -> list[str]:
    """Write ``NAME=REPOSITORY@sha256:...`` into the record; others in it stay.

    Returns:
        The references as recorded.

    Raises:
        SettingsError: no such image, or one without its digest.
    """
    kept = {entry["name"]: entry for entry in _entries(k8s)}
    for text in settings:
        name, _, reference = text.partition("=")
        image = _named(name)
        match = _BY_DIGEST.fullmatch(reference)
        if match is None:
            raise SettingsError(
                f"--set {text!r} has no digest: give {name}=REPOSITORY@sha256:... with the 64 "
                "hexadecimal digits that the registry tells after `docker push`"
            )
        plain, _ = _untagged(match["name"])
        kept[image.manifest_name] = {
            "name": image.manifest_name,
            "newName": plain,
            "digest": match["digest"],
        }
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [kept[name] for name in sorted(kept)],
    }
    body = yaml.safe_dump(component, sort_keys=False)
    write_text(k8s / "images" / "kustomization.yaml", _HEADER + body)
    return [f"{e['newName']}@{e['digest']}" for e in component["images"] if isinstance(e, dict)]


def recorded(name: str, k8s: Path = K8S) -> str:
    """The reference ``REPOSITORY@sha256:...`` of an image by its short name, such as ``train``.

    Raises:
        SettingsError: none was recorded.
    """
    found = references(k8s).get(_named(name).name)
    if found is None:
        raise SettingsError(
            f"image {name} has no digest yet: build and push it, then record its digest with "
            f"`tudsr images --set {name}=REPOSITORY@sha256:...`; `tudsr images` prints how"
        )
    return found


def references(k8s: Path = K8S) -> Mapping[str, str]:
    """Short name to ``REPOSITORY@sha256:...`` for all that were recorded."""
    by_manifest = {image.manifest_name: image.name for image in IMAGES}
    return {
        by_manifest[e["name"]]: f"{e['newName']}@{e['digest']}"
        for e in _entries(k8s)
        if e["name"] in by_manifest
    }


def has_digest(reference: str) -> bool:
    """Whether an image is fixed by its digest."""
    return _BY_DIGEST.fullmatch(reference) is not None


def _named(name: str) -> Image:
    for image in IMAGES:
        if image.name == name:
            return image
    known = ", ".join(image.name for image in IMAGES)
    raise SettingsError(f"no image {name!r}; there are {known}")


def _entries(k8s: Path) -> list[dict[str, str]]:
    file = k8s / "images" / "kustomization.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")).get("images") or []


def _untagged(place: str) -> tuple[str, str]:
    """A reference's repository and tag; a colon before the last slash is a port."""
    head, slash, last = place.rpartition("/")
    name, _, tag = last.partition(":")
    return head + slash + name, tag
