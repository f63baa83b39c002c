"""``tudsr kubeflow``: what would run on a cluster, without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipelines.kubeflow.plan import Estimate
    from pipelines.kubeflow.specification import Task

app = typer.Typer(
    name="kubeflow", help="Kubeflow without a cluster: compile and plan.", no_args_is_help=True
)

ProfileName = Annotated[str, typer.Option(help="a profile's name, or a .yaml file")]
PipelineName = Annotated[str, typer.Option(help="tudsr_full or tudsr_base")]
PoolsFile = Annotated[Path | None, typer.Option(help="node pools [k8s/pools.yaml]")]


@app.command("compile")
def compile_(
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write, YAML")],
    profile: ProfileName = "tiny",
    pipeline: PipelineName = "tudsr_full",
    image: Annotated[
        str | None, typer.Option(help="NAME@sha256:... [train, as `tudsr images` recorded it]")
    ] = None,
    claim: Annotated[
        str, typer.Option(help="PersistentVolumeClaim of the checkpoint volume")
    ] = "tudsr-checkpoints",
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="Secret for the steps, NAME=VARIABLE,VARIABLE [tudsr-zenml, tudsr-stores]"
        ),
    ] = None,
    pools: PoolsFile = None,
) -> None:
    """Write the pipeline's and the platform's specification, for review or GitOps.

    It holds no secret and no address of a store. A run of it needs the parameter snapshot_id.
    """
    from deploy.images import recorded
    from pipelines.kubeflow.secrets import DEFAULT, parse_secrets
    from pipelines.kubeflow.specification import Cluster, write_specification

    tasks = _drawn(pipeline, profile, image or recorded("train"), pools)
    cluster = Cluster(secrets=parse_secrets(secret) if secret else DEFAULT, claim=claim)
    write_specification(pipeline.replace("_", "-"), tasks, cluster, output)
    typer.echo(f"{output}: {len(tasks)} tasks; start a run with parameter snapshot_id")


@app.command()
def plan(
    profile: ProfileName = "tiny",
    pipeline: PipelineName = "tudsr_full",
    pools: PoolsFile = None,
) -> None:
    """Print each step's pool, GPUs, memory, retries and timeout, and estimates of time and cost."""
    from rich.console import Console

    from pipelines.kubeflow.plan import estimates
    from pipelines.kubeflow.pools import POOLS_FILE, load_pools
    from tudsr.profile import load_profile

    tasks = _drawn(pipeline, profile, "", pools)
    for task in tasks:
        task.demand.check()
    found = estimates(tasks, load_profile(profile))
    currency = load_pools(pools or POOLS_FILE).currency
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_table(found, f"{pipeline}, profile {profile}", currency))
    console.print(
        "Estimated: one attempt a step; images over the profile's images_per_s, plus "
        f"overhead_min, both assumptions; prices from {(pools or POOLS_FILE).name}. Not measured.",
        highlight=False,
    )


def _drawn(pipeline: str, profile: str, image: str, pools: Path | None) -> list[Task]:
    import pipelines
    from pipelines.kubeflow.drawing import draw
    from pipelines.kubeflow.pools import POOLS_FILE, load_pools
    from tudsr.errors import SettingsError

    if pipeline not in pipelines.__all__:
        raise SettingsError(f"no pipeline {pipeline!r}; there are {', '.join(pipelines.__all__)}")
    return draw(getattr(pipelines, pipeline), profile, image, load_pools(pools or POOLS_FILE))


def _table(found: list[Estimate], title: str, currency: str) -> Any:
    from rich.table import Table

    table = Table(title=title, show_footer=True)
    known = all(one.hours is not None for one in found)
    total_gpu, total = (sum(getattr(e, a) or 0 for e in found) for a in ("gpu_hours", "cost"))
    more = "" if known else "+"
    columns = [("step", "total"), ("pool", ""), ("GPUs", ""), ("memory", ""), ("retries", "")]
    columns += [("timeout", ""), ("images", ""), ("hours, est.", "")]
    columns += [
        ("GPU-h, est.", f"{total_gpu:.1f}{more}"),
        (f"{currency}, est.", f"{total:.2f}{more}"),
    ]
    for number, (head, foot) in enumerate(columns):
        table.add_column(
            head, footer=foot, justify="left" if number < 3 else "right", no_wrap=not number
        )
    for one in found:
        table.add_row(*_row(one))
    return table


def _row(one: Estimate) -> list[str]:
    demand = one.demand
    gpus = f"{demand.gpus} x {demand.pool.gpu}" if demand.gpus else "-"
    figures = (one.hours, "{:.2f}"), (one.gpu_hours, "{:.1f}"), (one.cost, "{:.2f}")
    return [
        demand.step,
        demand.pool_name,
        gpus,
        f"{demand.memory_gib:g} GiB",
        str(demand.retries),
        f"{demand.timeout_s / 3600:g} h",
        f"{one.images:,}" if one.images else "-",
        *("unknown" if value is None else form.format(value) for value, form in figures),
    ]
