"""``tudsr models``, ``promote``, ``rollback`` and ``status``."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from tudsr.profile import RegistrySettings

Name = Annotated[str, typer.Option(help="registered model")]
_NAME = RegistrySettings().model_name


def models(name: Name = _NAME) -> None:
    """List the registered versions and the promotions."""
    from rich.console import Console
    from rich.table import Table

    from tudsr.release import ledger
    from tudsr.release.promotion import note_outside_move
    from tudsr.release.registry import list_versions

    with ledger.locked():
        note_outside_move(name, getpass.getuser())
    table = Table("version", "alias", "gate", "gain x4", "gain x8", "PSNR x4", "made", "code", "data")
    for v in list_versions(name):
        made = datetime.fromtimestamp(v.created / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        figures = [v.tags.get(k, "") for k in ("gate", "gain_x4", "gain_x8", "psnr_y_x4")]
        hashes = [v.tags.get(k, "")[:8] for k in ("code", "data")]
        table.add_row(v.version, ", ".join(v.aliases), *figures, made, *hashes)
    Console().print(table)
    for entry in ledger.read_ledger(name):
        move = f"{entry.from_version or 'none'} -> {entry.to_version or 'none'}"
        typer.echo(f"{entry.when}  {entry.action:13}  {move:12}  {entry.actor}: {entry.reason}")


def promote(
    version: Annotated[str | None, typer.Argument(help="default: the challenger")] = None,
    force: Annotated[str | None, typer.Option(help="promote all the same, for this reason")] = None,
    name: Name = _NAME,
) -> None:
    """Make a version the champion, which is what is served."""
    from tudsr.release.promotion import promote as run

    made = run(name, version, force, getpass.getuser())
    typer.echo(f"{name} version {made.version} is champion. Serve it: make serve")


def rollback(name: Name = _NAME) -> None:
    """Make the version before the champion the champion again."""
    from tudsr.release.promotion import rollback as run

    now = run(name, getpass.getuser())
    typer.echo(f"champion of {name}: {f'version {now.version}' if now else 'none'}")


def status(name: Name = _NAME) -> None:
    """Say what the last pipeline run made, and what to do next."""
    from tudsr.places import outputs_dir
    from tudsr.release.gate import Verdict
    from tudsr.release.registry import list_versions

    evaluation = outputs_dir() / "run" / "evaluation"
    if not (evaluation / "verdict.json").is_file():
        typer.echo("nothing has been run yet: zenml pipeline run tudsr_full")
        raise typer.Exit(1)
    verdict = Verdict.model_validate_json((evaluation / "verdict.json").read_text("utf-8"))
    typer.secho(f"gate: {'open' if verdict.open else 'closed'}", bold=True)
    for rule in verdict.rules:
        typer.echo(f"  {'ok  ' if rule.passed else 'FAIL'} {rule.sentence}")
    for version in list_versions(name)[-1:]:
        marks = f" ({', '.join(version.aliases)})" if version.aliases else ""
        typer.echo(f"registered: {name} version {version.version}{marks}")
    typer.echo(f"report: {evaluation / 'report.html'}")
    typer.echo("next:  tudsr promote               make it the champion")
    typer.echo("       make serve                  a page and an endpoint on port 3000")
    typer.echo("       tudsr upscale IN OUT --scale 8")
