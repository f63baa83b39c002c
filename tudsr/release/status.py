"""``tudsr status``: what the last pipeline run made, and what to do next."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def status(
    name: Annotated[str, typer.Option("--name", help="the registered model")] = "tudsr",
) -> None:
    """Say what the last pipeline run made, and what to do next."""
    from tudsr.places import outputs_dir
    from tudsr.release.gate import Verdict
    from tudsr.release.registry import list_versions
    from tudsr.release.tags import in_words, interval_sentence

    evaluation = outputs_dir() / "run" / "evaluation"
    if not (evaluation / "verdict.json").is_file():
        typer.echo("nothing has been run yet: zenml pipeline run tudsr_full")
        raise typer.Exit(1)
    verdict = Verdict.model_validate_json((evaluation / "verdict.json").read_text("utf-8"))
    typer.secho(f"gate: {'open' if verdict.open else 'closed'}", bold=True)
    for rule in verdict.rules:
        typer.echo(f"  {'ok  ' if rule.passed else 'FAIL'} {rule.sentence}")
    typer.echo(f"report: {evaluation / 'report.html'}")
    if not verdict.open:
        typer.echo("nothing was packaged or registered: the floors stand in the profile, `gate`")
        return
    for version in list_versions(name)[-1:]:
        marks = f" ({', '.join(version.aliases)})" if version.aliases else ""
        typer.echo(f"registered: {name} version {version.version}{marks}")
    lost = verdict.beats_champion is False
    if lost:
        told = json.dumps(verdict.model_dump(mode="json")["versus_champion"])
        typer.echo(f"it does not beat {in_words(verdict.champion or '')}, which stays in use:")
        typer.echo(f"  {interval_sentence(told, verdict.perceptual)}")
    typer.echo("next, after `source .venv/bin/activate`:")
    if not lost or _may_follow(name):
        typer.echo("  tudsr promote                      make it the champion")
    else:
        typer.echo("  tudsr promote --force REASON       make it the champion all the same")
    typer.echo("  make serve                         a page and an endpoint on port 3000")
    typer.echo("  tudsr upscale IN OUT --scale 8     with the model in use")


def _may_follow(name: str) -> bool:
    """Whether ``tudsr promote`` would take the challenger: after a draw with what stands in."""
    from tudsr.errors import RegistryError
    from tudsr.release.promotion import check

    try:
        check(name, None)
    except RegistryError:
        return False
    return True
