"""What applying manifests would change, asked of the server itself; and carrying that out.

Everything is tried as a server-side dry run before the first object is changed, so conflicts, kinds
that the cluster lacks and what its admission refuses come up while nothing has happened yet.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from deploy.cluster import Cluster, ClusterError, ConflictError
from deploy.manifests import Manifest, label
from deploy.ownership import applied_before
from deploy.rollout import Report, RolloutError, is_workload, wait

_SERVERS_OWN = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp")
_INSTALL = {
    "keda.sh": "KEDA",
    "kueue.x-k8s.io": "Kueue",
    "gateway.networking.k8s.io": "the Gateway API",
    "monitoring.coreos.com": "the Prometheus Operator",
    "trainer.kubeflow.org": "Kubeflow Trainer",
}


@dataclass(frozen=True)
class Change:
    """One object as it is to be.

    Attributes:
        manifest: what will be applied.
        before: what was applied before, None for a new object.
        diff: lines of a unified diff of the whole object; none where nothing changes.
    """

    manifest: Manifest
    before: Manifest | None
    diff: tuple[str, ...]


def preview(cluster: Cluster, manifests: Sequence[Manifest], force: bool = False) -> list[Change]:
    """Ask the server what applying would do; nothing is changed.

    Raises:
        ClusterError: what the cluster lacks or refuses, all of it together.
    """
    require_kinds(cluster, manifests)
    changes: list[Change] = []
    refusals: list[ConflictError] = []
    for manifest in manifests:
        live = cluster.live(manifest)
        try:
            result = cluster.apply(manifest, dry_run=True, force=force)
        except ConflictError as error:
            refusals.append(error)
            continue
        before = applied_before(live) if live else None
        changes.append(Change(manifest, before, tuple(_diff(live, result, label(manifest)))))
    if refusals:
        raise ConflictError("\n".join(str(refusal) for refusal in refusals))
    return changes


def require_kinds(cluster: Cluster, manifests: Sequence[Manifest]) -> None:
    """Refuse kinds that the cluster does not know, with what brings them."""
    missing = {(m["apiVersion"], m["kind"]) for m in manifests if not cluster.knows(m)}
    if missing:
        listed = ", ".join(f"{kind} ({version})" for version, kind in sorted(missing))
        groups = {version.partition("/")[0] for version, _ in missing}
        bring = ", ".join(sorted(_INSTALL.get(str(group), str(group)) for group in groups))
        raise ClusterError(
            f"the cluster does not know {listed}: install {bring} first (docs/kubernetes.md)"
        )


def carry_out(
    cluster: Cluster,
    changes: Sequence[Change],
    timeout_s: float,
    report: Report,
    force: bool = False,
    done: list[Change] | None = None,
    unawaited: str = "",
) -> None:
    """Apply the changes and wait until their workloads are ready.

    A workload that does not become ready brings all of them back to what was applied before, those
    in ``done`` (from earlier phases) too. ``unawaited`` names one that is not waited for.

    Raises:
        RolloutError: not ready, and brought back.
        ClusterError: the API failed midway; applying again goes on from there.
    """
    done = [] if done is None else done
    for change in changes:
        if change.diff:
            _apply(cluster, change, force, len(done))
            done.append(change)
    try:
        workloads = [c.manifest for c in changes if is_workload(c.manifest)]
        awaited = [w for w in workloads if w["metadata"]["name"] != unawaited]
        wait(cluster, awaited, timeout_s, report)
    except RolloutError as error:
        raise RolloutError(f"{error}\n{_bring_back(cluster, done)}") from None


def _apply(cluster: Cluster, change: Change, force: bool, applied: int) -> None:
    try:
        cluster.apply(change.manifest, force=force)
    except ConflictError:
        raise
    except ClusterError as error:
        raise type(error)(
            f"{error}. Of the changes {applied} are made; the same command goes on from there"
        ) from None


def _bring_back(cluster: Cluster, done: Sequence[Change]) -> str:
    """Apply what was applied before, the newest change first; a sentence on how that went."""
    back = [change for change in reversed(done) if change.before is not None]
    new = [label(change.manifest) for change in done if change.before is None]
    for change in back:
        try:
            cluster.apply(change.before or {}, force=True)
        except ClusterError as error:
            return f"Rolling back failed at {label(change.manifest)}: {error}"
    kept = f"; {', '.join(new)} is new and stays for you to look at" if new else ""
    if not back:
        return f"Nothing was there before to roll back to{kept}"
    return f"Rolled back {', '.join(label(change.manifest) for change in back)}{kept}"


def _diff(live: Manifest | None, result: Manifest, name: str) -> list[str]:
    old = _text(live) if live else []
    names = f"{name} now", f"{name} then"
    return list(difflib.unified_diff(old, _text(result), *names, n=2, lineterm=""))


def _text(manifest: Manifest) -> list[str]:
    """YAML without what the server adds by itself."""
    shown: dict[str, Any] = {key: value for key, value in manifest.items() if key != "status"}
    meta = manifest.get("metadata", {})
    shown["metadata"] = {key: meta[key] for key in meta if key not in _SERVERS_OWN}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(shown, Dumper=dumper, sort_keys=True).splitlines()
