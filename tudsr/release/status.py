"""``tudsr status``: what the last pipeline run came to, and what to do next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tudsr.release.gate import Verdict


def status() -> None:
    """Say what the last run of `tudsr_full` came to, and what to do next."""
    from tudsr.release.summary import read_summary

    last = read_summary()
    if last is None:
        typer.echo("nothing has been run yet: zenml pipeline run tudsr_full")
        raise typer.Exit(1)
    if last.verdict is None:
        typer.echo(
            f"the last run (profile {last.run}) did not finish, and its own output says why; or it "
            "still runs. Started again here, it goes on where it stopped"
        )
        raise typer.Exit(1)
    typer.echo(f"run: {last.run}")
    _tell_gate(last.verdict)
    if not last.verdict.open:
        typer.echo("nothing was packaged or registered: the floors stand in the profile, `gate`")
    elif last.version is None:
        typer.echo("nothing was registered: the run ended before, and its own output says why")
    else:
        _tell_version(last.model, last.version, last.verdict)


def _tell_gate(verdict: Verdict) -> None:
    typer.secho(f"gate: {'open' if verdict.open else 'closed'}", bold=True)
    for rule in verdict.rules:
        typer.echo(f"  {'ok  ' if rule.passed else 'FAIL'} {rule.sentence}")
    typer.echo(f"report: {_report(verdict)}")


def _report(verdict: Verdict) -> str:
    """Where this verdict's report is: a verdict from the cache may have come after another's."""
    from tudsr.places import outputs_dir
    from tudsr.release.gate import Verdict

    folder = outputs_dir() / "run" / "evaluation"
    file = folder / "verdict.json"
    if file.is_file() and Verdict.model_validate_json(file.read_text("utf-8")) == verdict:
        return str(folder / "report.html")
    return "the verdict came from the cache; the run's artifact `report` has the page"


def _tell_version(model: str, number: str, verdict: Verdict) -> None:
    from tudsr.errors import RegistryError
    from tudsr.release.locate import MODEL_NAME
    from tudsr.release.registry import CHAMPION, list_versions

    try:
        aliases = {v.version: v.aliases for v in list_versions(model)}.get(number, ())
    except RegistryError as error:
        typer.echo(
            f"registered: {model} version {number}; how it stands there is not known: {error}"
        )
        return
    marks = f" ({', '.join(aliases)})" if aliases else ""
    typer.echo(f"registered: {model} version {number}{marks}")
    if CHAMPION in aliases:
        typer.echo("it is the champion")
    promotable = CHAMPION not in aliases and _tell_standing(model, number, verdict)
    typer.echo("next, after `source .venv/bin/activate`:")
    if promotable:
        named = f" --name {model}" if model != MODEL_NAME else ""
        typer.echo(f"  {f'tudsr promote {number}{named}':<33}  make it the champion")
    typer.echo("  make serve                         a page and an endpoint on port 3000")
    typer.echo("  tudsr upscale IN OUT --scale 8     with the model in use")


def _tell_standing(model: str, number: str, verdict: Verdict) -> bool:
    """Say what speaks against the version; whether ``tudsr promote`` takes it without ``--force``.

    What it says is what ``tudsr promote`` would, a registry that does not answer included.
    """
    from tudsr.errors import RegistryError
    from tudsr.release.promotion import check
    from tudsr.release.tags import in_words, interval_sentence

    try:
        check(model, number)
    except RegistryError as error:
        typer.echo(str(error))
        return False
    if verdict.beats_champion is False:
        told = json.dumps(verdict.model_dump(mode="json")["versus_champion"])
        typer.echo(f"it does not beat {in_words(verdict.champion or '')}, which is no champion:")
        typer.echo(f"  {interval_sentence(told, verdict.perceptual)}")
    return True
