"""What is named is there: ConfigMaps, Secrets, claims; images by digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deploy.images import has_digest
from deploy.lint.finding import Finding
from deploy.manifests import Manifest, containers, label, pod_templates


def images(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """Images are fixed by their digests."""
    for one in objects:
        for where, template in pod_templates(one):
            for container in containers(template):
                if not has_digest(container.get("image", "")):
                    what = f"image {container.get('image')!r} has no digest (`tudsr images`)"
                    yield Finding(where, "images", what)


def config_maps(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """ConfigMaps that pods name are there, with the key."""
    there = {o["metadata"]["name"]: o.get("data", {}) for o in objects if o["kind"] == "ConfigMap"}
    yield from _named(objects, "config map", there, "configMapKeyRef", "configMapRef", "configMap")


def secrets(
    objects: Sequence[Manifest], there: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Secrets that are named are documented, with the key; none is among the manifests."""
    for one in objects:
        if one["kind"] == "Secret":
            yield Finding(
                label(one), "secrets", "a Secret among the manifests: refer to one instead"
            )
        if one["kind"] == "Gateway":
            for listener in one["spec"]["listeners"]:
                for ref in (listener.get("tls") or {}).get("certificateRefs") or []:
                    if ref["name"] not in there:
                        what = f"Secret {ref['name']!r} is not in k8s/secrets.yaml"
                        yield Finding(label(one), "secrets", what)
    yield from _named(objects, "secrets", there, "secretKeyRef", "secretRef", "secret")


def claims(objects: Sequence[Manifest]) -> Iterator[Finding]:
    """PersistentVolumeClaims that pods mount are there."""
    there = {o["metadata"]["name"] for o in objects if o["kind"] == "PersistentVolumeClaim"}
    for one in objects:
        for where, template in pod_templates(one):
            for volume in template["spec"].get("volumes", []):
                name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
                if name is not None and name not in there:
                    yield Finding(where, "claims", f"claim {name!r} is not there")


def _named(
    objects: Sequence[Manifest],
    rule: str,
    there: Mapping[str, Mapping[str, str]],
    key_ref: str,
    whole_ref: str,
    volume_kind: str,
) -> Iterator[Finding]:
    for one in objects:
        for where, template in pod_templates(one):
            for name, key in _references(template, key_ref, whole_ref, volume_kind):
                if name not in there:
                    yield Finding(where, rule, f"{name!r} is not there")
                elif key is not None and key not in there[name]:
                    yield Finding(where, rule, f"{name!r} has no key {key!r}")


def _references(
    template: Manifest, key_ref: str, whole_ref: str, volume_kind: str
) -> Iterator[tuple[str, str | None]]:
    for container in containers(template):
        for source in container.get("envFrom", []):
            if whole_ref in source:
                yield source[whole_ref]["name"], None
        for entry in container.get("env", []):
            ref = (entry.get("valueFrom") or {}).get(key_ref)
            if ref:
                yield ref["name"], ref["key"]
    for volume in template["spec"].get("volumes", []):
        source = volume.get(volume_kind)
        if source:
            name = source.get("secretName") or source.get("name")
            items = source.get("items") or []
            yield from ((name, item["key"]) for item in items) if items else ((name, None),)
