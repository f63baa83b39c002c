"""Server-side apply as Kubernetes documents it, for the kinds and lists that the manifests have.

Who set which field is kept in ``metadata.managedFields``, in Kubernetes' own form (FieldsV1). A
field that somebody else set to another value is a conflict unless forced; one that an applier
leaves out, and nobody else set, goes.
"""

from __future__ import annotations

import copy
import json
from typing import Any

# Lists whose items have an identity; every other list is atomic. From the kinds' openAPI schemas.
_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "listeners": ("name",),
    "flavors": ("name",),
}
Path = tuple[str, ...]


class Conflict(Exception):
    """Fields of somebody else: (manager, path) each."""

    def __init__(self, causes: list[tuple[str, Path]]) -> None:
        super().__init__(causes)
        self.causes = causes


def apply(live: dict | None, wanted: dict, manager: str, force: bool) -> dict:
    """The object after ``manager`` applied ``wanted``."""
    made = copy.deepcopy(live) if live else {k: wanted[k] for k in ("apiVersion", "kind")}
    owners = owned(made)
    fields = leaves(_body(wanted))
    mine = set(fields)
    causes = [
        (other, path)
        for path in sorted(mine)
        for other, theirs in owners.items()
        if other != manager and path in theirs and _get(made, path) != _get(wanted, path)
    ]
    if causes and not force:
        raise Conflict(causes)
    for other, path in causes:
        owners[other].discard(path)
    others = set().union(*(paths for who, paths in owners.items() if who != manager))
    for path in sorted(owners.get(manager, set()) - mine - others, key=_names_its_item):
        _remove(made, path)
    for path in fields:
        _put(made, path, _get(wanted, path))
    owners[manager] = mine
    made.setdefault("metadata", {})["managedFields"] = [
        {"manager": who, "operation": "Apply", "apiVersion": made["apiVersion"],
         "fieldsType": "FieldsV1", "fieldsV1": _tree(paths)}
        for who, paths in owners.items() if paths
    ]  # fmt: skip
    return made


def owned(made: dict) -> dict[str, set[Path]]:
    """Manager to the paths it set."""
    fields = made.get("metadata", {}).get("managedFields", [])
    return {entry["manager"]: set(_flat(entry["fieldsV1"])) for entry in fields}


def leaves(value: Any, name: str = "", at: Path = ()) -> list[Path]:
    """Paths of all fields: ``f:NAME`` into mappings, ``k:{...}`` into lists with keys."""
    if isinstance(value, dict) and value:
        return [p for key, inner in value.items() for p in leaves(inner, key, (*at, f"f:{key}"))]
    if isinstance(value, list) and value and (keys := _keys(name, value)):
        return [
            path
            for item in value
            for path in leaves(item, "", (*at, "k:" + json.dumps({k: item[k] for k in keys})))
        ]
    return [at]


def _keys(name: str, items: list) -> tuple[str, ...] | None:
    if name == "ports":
        keys = ("containerPort",) if "containerPort" in items[0] else ("port",)
        return keys if all(isinstance(i, dict) and keys[0] in i for i in items) else None
    keys = _KEYS.get(name, ("",))
    return keys if all(isinstance(i, dict) and set(keys) <= i.keys() for i in items) else None


def _body(wanted: dict) -> dict:
    skipped = {"apiVersion", "kind", "status"}
    body = {key: value for key, value in wanted.items() if key not in skipped}
    meta = {k: v for k, v in wanted["metadata"].items() if k in {"labels", "annotations"}}
    del body["metadata"]
    return {**body, "metadata": meta} if meta else body


def _item(items: list, part: str) -> Any:
    wanted = json.loads(part[2:])
    return next((i for i in items if all(i.get(k) == v for k, v in wanted.items())), None)


def _get(value: Any, path: Path) -> Any:
    for part in path:
        if value is None:
            return None
        value = value.get(part[2:]) if part.startswith("f:") else _item(value, part)
    return value


def _put(value: Any, path: Path, new: Any) -> None:
    for part, following in zip(path, (*path[1:], ""), strict=True):
        last = not following
        if part.startswith("f:"):
            if last:
                value[part[2:]] = copy.deepcopy(new)
                return
            value = value.setdefault(part[2:], [] if following.startswith("k:") else {})
        else:
            found = _item(value, part)
            if found is None:
                found = json.loads(part[2:])
                value.append(found)
            if last:
                return
            value = found


def _names_its_item(path: Path) -> bool:
    """Such fields go last: without them the item's others could not be found."""
    item, field = ("", *path)[-2:]
    return item.startswith("k:") and field[2:] in json.loads(item[2:])


def _remove(value: Any, path: Path) -> None:
    holder = _get(value, path[:-1])
    if holder is None:
        return
    if path[-1].startswith("f:"):
        holder.pop(path[-1][2:], None)
    if path[-1].startswith("f:") and path[-2:-1] and path[-2].startswith("k:"):
        if set(holder) <= set(json.loads(path[-2][2:])):
            _get(value, path[:-2]).remove(holder)
    elif not holder and len(path) > 2:
        _remove(value, path[:-1])


def _tree(paths: set[Path]) -> dict:
    tree: dict = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if part.startswith("k:"):
                node.setdefault(".", {})
    return tree


def _flat(tree: dict, at: Path = ()) -> list[Path]:
    inner = {key: sub for key, sub in tree.items() if key != "."}
    if not inner:
        return [at]
    return [path for key, sub in inner.items() for path in _flat(sub, (*at, key))]
