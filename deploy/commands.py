"""``tudsr deploy`` and ``tudsr images``."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deploy.actions import Move
    from deploy.changes import Change
    from deploy.cluster import Cluster
    from deploy.rollout import Progress

app = typer.Typer(name="deploy", help="The endpoint on a Kubernetes cluster.", no_args_is_help=True)

Kubeconfig = Annotated[Path | None, typer.Option(help="kubeconfig file [KUBECONFIG]")]
Context = Annotated[str | None, typer.Option(help="which of its clusters [the current one]")]
Namespace = Annotated[str, typer.Option(help="namespace of the endpoint")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="show what would change, as the server sees it, and stop")
]
Force = Annotated[
    bool, typer.Option("--force-conflicts", help="take over fields that somebody else manages")
]
Timeout = Annotated[
    float, typer.Option("--timeout-s", min=1, help="how long pods may take to be ready, seconds")
]
K8s = Annotated[Path | None, typer.Option("--k8s", help="folder of the manifests [k8s]")]


@app.command()
def status(
    kubeconfig: Kubeconfig = None, context: Context = None, namespace: Namespace = "tudsr"
) -> None:
    """What is served: versions, pods, shares of the traffic."""
    from deploy.actions import live
    from deploy.status import table

    now = live(_cluster(kubeconfig, context), namespace)
    _print(table(now))


@app.command()
def apply(
    overlay: Annotated[str, typer.Argument(help="gpu or cpu: a folder of k8s/overlays")],
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "tudsr",
    dry_run: DryRun = False,
    force_conflicts: Force = False,
    timeout_s: Timeout = 900,
    k8s: K8s = None,
) -> None:
    """Bring everything of an overlay into the cluster; the versions served stay."""
    from deploy import actions

    where = (kubeconfig, context, namespace, k8s)
    with _moving(*where, dry_run, force_conflicts, timeout_s) as move:
        actions.apply(move, overlay)


@app.command()
def canary(
    version: Annotated[str, typer.Argument(help="version to try, as `tudsr models` lists it")],
    weight: Annotated[int, typer.Option(min=1, max=99, help="its share of the traffic, %")] = 10,
    replicas: Annotated[int, typer.Option(min=1, help="its pods")] = 1,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "tudsr",
    dry_run: DryRun = False,
    force_conflicts: Force = False,
    timeout_s: Timeout = 900,
    k8s: K8s = None,
) -> None:
    """Run a version beside the champion and give it a share of the traffic once it is ready."""
    from deploy import actions

    where = (kubeconfig, context, namespace, k8s)
    with _moving(*where, dry_run, force_conflicts, timeout_s) as move:
        actions.canary(move, version, weight, replicas)


@app.command()
def promote(
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="promote although it lost to the champion"),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="who does it; you, unless given")] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "tudsr",
    dry_run: DryRun = False,
    force_conflicts: Force = False,
    timeout_s: Timeout = 900,
    k8s: K8s = None,
) -> None:
    """Give the challenger all traffic, on the champion's pods; MLflow's champion follows."""
    from deploy import actions
    from deploy.registry import check_promotion, move_champion

    def follow(version: str) -> None:
        typer.echo(move_champion(version, force, actor or getpass.getuser()))

    where = (kubeconfig, context, namespace, k8s)
    with _moving(*where, dry_run, force_conflicts, timeout_s) as move:
        actions.promote(move, lambda version: check_promotion(version, force), follow)


@app.command()
def abort(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "tudsr",
    dry_run: DryRun = False,
    force_conflicts: Force = False,
    timeout_s: Timeout = 900,
    k8s: K8s = None,
) -> None:
    """Give all traffic back to the champion and end the challenger."""
    from deploy import actions

    where = (kubeconfig, context, namespace, k8s)
    with _moving(*where, dry_run, force_conflicts, timeout_s) as move:
        actions.abort(move)


def images(
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=REPOSITORY@sha256:...", help="record a digest"),
    ] = None,
    registry: Annotated[
        str, typer.Option(help="where the images go, such as ghcr.io/you")
    ] = "REGISTRY",
    k8s: K8s = None,
) -> None:
    """Print how the images are built and pushed, or record the digests that they got."""
    from deploy.images import IMAGES, commands, record, references

    folder = k8s or _k8s()
    if set_:
        for reference in record(set_, folder):
            typer.echo(f"recorded {reference}")
        return
    known = references(folder)
    for image in IMAGES:
        typer.echo(f"# {image.name}: {known.get(image.name, 'no digest recorded')}")
    typer.echo("\n".join(commands(registry)))


@contextmanager
def _moving(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    k8s: Path | None,
    dry_run: bool,
    force: bool,
    timeout_s: float,
) -> Generator[Move]:
    """A move with a progress bar for each workload, and a word at the end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from deploy.actions import Move

    cluster = _cluster(kubeconfig, context)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pods]}")
    with Progress(*columns, TimeElapsedColumn(), transient=False) as bars:
        show, report = _shower(bars.console.print), _reporter(bars)
        yield Move(cluster, show, report, dry_run, force, timeout_s, namespace, k8s or _k8s())
    typer.echo("dry run: nothing was changed" if dry_run else "done")


def _shower(write: Callable[..., None]) -> Callable[[Sequence[Change]], None]:
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}

    def show(changes: Sequence[Change]) -> None:
        for line in (line for change in changes for line in change.diff):
            write(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)
        changed = sum(bool(change.diff) for change in changes)
        write(f"{changed} of {len(changes)} objects change")

    return show


def _reporter(bars: Any) -> Callable[[Progress], None]:
    tasks: dict[str, Any] = {}

    def report(now: Progress) -> None:
        pods = f"{now.ready}/{now.wanted} pods"
        if now.name not in tasks:
            tasks[now.name] = bars.add_task(now.name, total=max(now.wanted, 1), pods=pods)
        filled = max(now.wanted, 1) if now.done else now.ready
        bars.update(tasks[now.name], completed=filled, total=max(now.wanted, 1), pods=pods)

    return report


def _cluster(kubeconfig: Path | None, context: str | None) -> Cluster:
    from deploy.cluster import Cluster

    return Cluster(kubeconfig, context)


def _k8s() -> Path:
    from deploy.images import K8S

    return K8S


def _print(what: Any) -> None:
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(what)
