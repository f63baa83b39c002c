"""``tudsr models``, ``tudsr promote``, ``tudsr rollback`` and ``tudsr ship``."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from tudsr.release.ledger import LedgerEntry
    from tudsr.release.registry import RegisteredVersion

Name = Annotated[str, typer.Option("--name", help="the registered model")]
Actor = Annotated[str | None, typer.Option(help="who does it; you, unless given")]


def models(name: Name = "tudsr") -> None:
    """List the registered versions, which is champion, and what the gate measured."""
    from tudsr.release.promotion import note_outside_move
    from tudsr.release.registry import list_versions

    versions = list_versions(name)
    if not versions:
        typer.echo(f"no version of {name} is registered yet: run `make run`")
        return
    moved = note_outside_move(name)
    _print(_table(versions[::-1]))
    if moved is not None:
        typer.echo(
            f"note: champion was moved outside of tudsr, from {moved.moved_from or 'none'} to "
            f"{moved.moved_to or 'none'}; the ledger has it now"
        )


def promote(
    version: Annotated[
        str | None, typer.Argument(help="version number; the challenger, unless given")
    ] = None,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="promote although it lost to the champion"),
    ] = None,
    name: Name = "tudsr",
    actor: Actor = None,
) -> None:
    """Make a version champion: it is what `upscale` and `serve` use from then on."""
    from tudsr.release import promotion

    entry = promotion.promote(name, version, force, actor or getpass.getuser())
    _say("promoted", entry)


def rollback(name: Name = "tudsr", actor: Actor = None) -> None:
    """Make the champion before this one champion again."""
    from tudsr.release import promotion

    _say("rolled back", promotion.rollback(name, actor or getpass.getuser()))


def ship(
    model: Annotated[
        str | None, typer.Argument(help="a bundle's folder, a version or an alias [champion]")
    ] = None,
    name: Name = "tudsr",
) -> None:
    """Make a model the one that comes with the repository; `make ship` stores it with DVC too."""
    from tudsr.release.locate import SHIPPED, locate
    from tudsr.release.ship import ship as copy

    shipped = copy(locate(model, name).path)
    where = f"base {shipped.base.source}" if not shipped.base.included else "a base of its own"
    typer.echo(f"{SHIPPED}: {shipped.model_name} {shipped.bundle_hash[:12]}, {where}")


def _say(what: str, entry: LedgerEntry) -> None:
    before = f"version {entry.moved_from}" if entry.moved_from else "none"
    forced = f" Forced: {entry.reason}." if entry.forced else ""
    typer.echo(f"{what}: version {entry.moved_to} is champion (before: {before}).{forced}")


def _table(versions: list[RegisteredVersion]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("version", "aliases", "gate", "gain x4", "gain x8", "PSNR-Y x4", "PSNR-Y x8"):
        table.add_column(heading, justify="left" if heading == "aliases" else "right")
    for heading in ("profile", "created", "code", "data"):
        table.add_column(heading)
    for version in versions:
        table.add_row(*_row(version))
    return table


def _row(version: RegisteredVersion) -> list[str]:
    tags = version.tags
    return [
        version.version,
        ", ".join(version.aliases),
        tags.get("gate", ""),
        *(_percent(tags.get(f"gain_{scale}")) for scale in ("x4", "x8")),
        *(_decibel(tags.get(f"psnr_y_{scale}")) for scale in ("x4", "x8")),
        tags.get("profile", ""),
        version.created.replace("T", " ").removesuffix("+00:00"),
        tags.get("code", "")[:8],
        tags.get("data", "")[:8],
    ]


def _percent(value: str | None) -> str:
    return f"{float(value):.1%}" if value else "–"  # noqa: RUF001


def _decibel(value: str | None) -> str:
    return f"{float(value):.2f}" if value else "–"  # noqa: RUF001


def _print(table: Table) -> None:
    """To the terminal's width, or unwrapped into a pipe."""
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)
