"""The moves of a release: apply, canary, promote, abort.

Each is a list of phases; a phase is a release that the objects it names are brought to. All phases
are previewed before the first begins. Killed anywhere, the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.changes import Change, carry_out, preview
from deploy.cluster import Cluster, ClusterError
from deploy.images import K8S
from deploy.manifests import Manifest
from deploy.preflight import deployable, require_secrets, require_version
from deploy.release import CHALLENGER, CHAMPION, ROUTE, Release, find, released, running
from deploy.rollout import Report, progress_of
from tudsr.errors import SettingsError

OVERLAY_LABEL = "tudsr.dev/overlay"
_KINDS = {
    CHAMPION: ("apps/v1", "Deployment"),
    CHALLENGER: ("apps/v1", "Deployment"),
    ROUTE: ("gateway.networking.k8s.io/v1", "HTTPRoute"),
}


@dataclass(frozen=True)
class Live:
    """What runs: the release, and the objects that say so."""

    release: Release
    champion: Manifest | None
    challenger: Manifest | None
    route: Manifest | None


@dataclass(frozen=True)
class Move:
    """How a command is carried out.

    Attributes:
        show: is given the changes before any is made.
        report: is told how far a workload is.
        dry_run: show and stop.
        force: take over fields that somebody else manages.
        timeout_s: how long workloads may take to be ready, each phase.
    """

    cluster: Cluster
    show: Callable[[Sequence[Change]], None]
    report: Report
    dry_run: bool = False
    force: bool = False
    timeout_s: float = 900
    namespace: str = "tudsr"
    k8s: Path = K8S


Phase = tuple[Release, tuple[str, ...]]


def live(cluster: Cluster, namespace: str) -> Live:
    """Read what runs.

    Raises:
        ClusterError: the cluster cannot be reached or lacks the Gateway API.
    """
    found = {name: cluster.get(*_KINDS[name], name, namespace) for name in _KINDS}
    champion, challenger, route = found[CHAMPION], found[CHALLENGER], found[ROUTE]
    return Live(running(champion, challenger, route), champion, challenger, route)


def apply(move: Move, overlay: str) -> None:
    """Bring all objects of an overlay into the cluster; the release that runs stays as it is.

    While no version was promoted here, the champion's pods are not waited for: they wait themselves
    for a model that MLflow calls champion.

    Raises:
        SettingsError, ClusterError, RolloutError: see the checks and ``carry_out``.
    """
    objects = deployable(overlay, move.k8s)
    require_secrets(move.cluster, move.namespace, move.k8s)
    now = live(move.cluster, move.namespace).release
    changes = preview(move.cluster, released(objects, now), move.force)
    move.show(changes)
    if not move.dry_run:
        unawaited = "" if now.champion else CHAMPION
        carry_out(
            move.cluster, changes, move.timeout_s, move.report, move.force, unawaited=unawaited
        )


def canary(move: Move, version: str, weight: int, replicas: int = 1) -> None:
    """Start a challenger and, once it is ready, give it ``weight`` percent of the traffic.

    Raises:
        RegistryError: no such version.
        SettingsError: another challenger is under trial, or the version is champion.
        RolloutError: the challenger did not become ready: it is gone again, no traffic moved.
    """
    require_version(version)
    now = _must_run(move)
    if now.release.champion == version:
        raise SettingsError(f"version {version} is what the champion's pods serve already")
    if now.release.challenger not in (None, version):
        raise SettingsError(
            f"version {now.release.challenger} is under trial with {now.release.weight} % of the "
            "traffic: `tudsr deploy promote` or `tudsr deploy abort` it first"
        )
    trial = now.release.model_copy(update={"challenger": version, "replicas": replicas})
    shared = trial.model_copy(update={"weight": weight})
    _go(move, now, [(trial, (CHALLENGER,)), (shared, (ROUTE,))])


def promote(move: Move, check: Callable[[str], None], follow: Callable[[str], None]) -> str:
    """Make the challenger's version the champion's, give it all traffic, end the challenger.

    Args:
        check: called with the version before anything is changed; raises to refuse.
        follow: called with the version when all traffic goes to it, before the challenger ends, so
            that a failure in it leaves something to repeat the command for.

    Returns:
        The version.

    Raises:
        SettingsError: no challenger, or one that is not ready.
        RolloutError: the champion's pods did not become ready: they are what they were.
    """
    now = _must_run(move)
    version = now.release.challenger
    if version is None or now.challenger is None:
        raise SettingsError("no challenger is under trial: start one with `tudsr deploy canary`")
    state = progress_of(now.challenger)
    if not state.done:
        raise SettingsError(
            f"challenger {version} has {state.ready} of {state.wanted} pods ready: wait for it, or "
            "`tudsr deploy abort`"
        )
    check(version)
    swapped = now.release.model_copy(update={"champion": version})
    alone = swapped.model_copy(update={"weight": 0})
    ended = alone.model_copy(update={"challenger": None, "replicas": 0})
    _go(
        move,
        now,
        [(swapped, (CHAMPION,)), (alone, (ROUTE,)), (ended, (CHALLENGER,))],
        lambda: follow(version),
    )
    return version


def abort(move: Move) -> None:
    """Give all traffic to the champion and end the challenger.

    Raises:
        SettingsError: nothing is under trial.
    """
    now = _must_run(move)
    if now.release.challenger is None and not now.release.weight:
        raise SettingsError("no challenger is under trial: there is nothing to abort")
    alone = now.release.model_copy(update={"weight": 0})
    ended = alone.model_copy(update={"challenger": None, "replicas": 0})
    _go(move, now, [(alone, (ROUTE,)), (ended, (CHALLENGER,))])


def _go(
    move: Move, now: Live, phases: Sequence[Phase], before_last: Callable[[], None] | None = None
) -> None:
    objects = deployable(_overlay(now), move.k8s)
    previews = [
        preview(move.cluster, [_named(objects, release, name) for name in names], move.force)
        for release, names in phases
    ]
    move.show([change for changes in previews for change in changes])
    if move.dry_run:
        return
    done: list[Change] = []
    for number, changes in enumerate(previews, 1):
        if number == len(previews) and before_last is not None:
            before_last()
        carry_out(move.cluster, changes, move.timeout_s, move.report, move.force, done)


def _named(objects: Sequence[Manifest], release: Release, name: str) -> Manifest:
    return find(released(objects, release), _KINDS[name][1], name)


def _must_run(move: Move) -> Live:
    now = live(move.cluster, move.namespace)
    if now.champion is None or now.challenger is None or now.route is None:
        raise ClusterError(
            f"the endpoint is not in namespace {move.namespace} of {move.cluster.host}: run "
            "`tudsr deploy apply gpu` (or cpu) first"
        )
    return now


def _overlay(now: Live) -> str:
    labels = (now.champion or {})["metadata"].get("labels", {})
    if OVERLAY_LABEL not in labels:
        raise ClusterError(
            f"Deployment/{CHAMPION} has no label {OVERLAY_LABEL}: it was not put there by "
            "`tudsr deploy apply`; run that first"
        )
    return labels[OVERLAY_LABEL]
