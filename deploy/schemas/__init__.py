"""Objects against schemas: Kubernetes' own, typed models of packages, and small ones of ours.

A kind without a schema is a fault: kubernetes-validate passes unknown kinds and removed versions.
"""

from __future__ import annotations

from pydantic import ValidationError

from deploy.manifests import Manifest, label
from deploy.schemas import gateway, kueue, typed

KUBERNETES = "1.37"
"""The version whose schemas count."""

_OURS = {**gateway.KINDS, **kueue.KINDS}


def faults(manifest: Manifest, version: str = KUBERNETES) -> list[str]:
    """What a schema says against an object; empty where it is as it should be."""
    kind = (manifest["apiVersion"], manifest["kind"])
    name = label(manifest)
    try:
        if kind in _OURS:
            _OURS[kind].model_validate(manifest)
        elif kind in typed.KINDS:
            typed.check(manifest)
        else:
            return [f"{name}: {fault}" for fault in _kubernetes(manifest, version)]
    except ValidationError as error:
        return [f"{name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    except ValueError as error:
        return [f"{name}: {error}"]
    return []


def _kubernetes(manifest: Manifest, version: str) -> list[str]:
    import kubernetes_validate as kv

    try:
        kv.validate(manifest, version, strict=True)
    except kv.ValidationError as error:
        return [f"{'.'.join(str(part) for part in error.path)}: {error.message}"]
    except kv.SchemaNotFoundError:
        api = manifest["apiVersion"]
        return [f"no schema for this kind of {api}, neither in Kubernetes {version} nor here"]
    return []
