"""What a field manager owns of an object, as Kubernetes records it (``metadata.managedFields``).

Applying just that again brings an object back to how it was applied before: the way back of a
rollout that fails.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from deploy.manifests import Manifest

FIELD_MANAGER = "tudsr-deploy"


def applied_before(live: Manifest, manager: str = FIELD_MANAGER) -> Manifest | None:
    """The manifest that ``manager`` applied last, taken out of the live object; None for never."""
    for entry in live.get("metadata", {}).get("managedFields", []):
        if entry.get("manager") == manager and entry.get("operation") == "Apply":
            owned = _take(live, entry["fieldsV1"])
            meta = {k: live["metadata"][k] for k in ("name", "namespace") if k in live["metadata"]}
            owned["metadata"] = {**owned.get("metadata", {}), **meta}
            return {"apiVersion": live["apiVersion"], "kind": live["kind"], **owned}
    return None


def _take(value: Any, fields: dict[str, Any]) -> Any:
    """The part of ``value`` that ``fields`` names; an empty set of fields is the whole value."""
    inner = {key: sub for key, sub in fields.items() if key != "."}
    if not inner:
        return copy.deepcopy(value) if "." not in fields else _empty(value)
    if isinstance(value, list):
        return [_take(item, sub) for item in value for key, sub in inner.items() if _is(item, key)]
    taken: dict[str, Any] = {}
    for key, sub in inner.items():
        name = key.removeprefix("f:")
        if name in value:
            taken[name] = _take(value[name], sub)
    return taken


def _is(item: Any, key: str) -> bool:
    """Whether ``k:{...}`` (by its keys) or ``v:...`` (by its value) means this item of a list."""
    kind, _, text = key.partition(":")
    wanted = json.loads(text)
    return item == wanted if kind == "v" else all(item.get(k) == v for k, v in wanted.items())


def _empty(value: Any) -> Any:
    """A member that is owned as such, without its content, keeps only what is plain."""
    if isinstance(value, dict):
        return {}
    return [] if isinstance(value, list) else value
