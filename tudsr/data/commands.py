"""``tudsr data …``: facts, validation and pairs, each on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure, validate and degrade the photographs.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Option("--profile", help="profile name or .yaml file")]
Out = Annotated[Path, typer.Option(help="where the result goes")]

_FACTS = Path("outputs/data/facts.csv")
_VALIDATION = Path("outputs/data/validation")
_PAIRS = Path("outputs/data/pairs")


@app.command()
def facts(profile: ProfileName = "tiny", out: Out = _FACTS) -> None:
    """Measure every photograph and write the facts table."""
    from tudsr.data.facts import gather_facts, write_facts
    from tudsr.data.sets import photographs_of, set_version, training_sample
    from tudsr.profile import load_profile

    data = load_profile(profile).data
    rows = gather_facts(photographs_of(data), training_sample(data))
    write_facts(out, rows)
    typer.echo(f"{len(rows)} photographs of data version {set_version(data)}: {out}")


@app.command()
def validate(
    profile: ProfileName = "tiny",
    facts: Annotated[Path, typer.Option(help="table that `tudsr data facts` wrote")] = _FACTS,
    out: Out = _VALIDATION,
) -> None:
    """Check the facts against the profile's bounds and set bad photographs aside."""
    from tudsr.data.expectations import validate as judge
    from tudsr.data.facts import read_facts
    from tudsr.profile import load_profile

    verdict = judge(read_facts(facts), load_profile(profile).data, out)
    for file, reasons in verdict.set_aside.items():
        typer.echo(f"set aside {file}: {'; '.join(reasons)}", err=True)
    counts = ", ".join(f"{count} {split}" for split, count in verdict.counts.items())
    typer.echo(f"usable: {counts}. Docs: {out / 'docs' / 'index.html'}")


@app.command()
def pairs(
    profile: ProfileName = "tiny",
    validation: Annotated[
        Path, typer.Option(help="folder that `tudsr data validate` wrote")
    ] = _VALIDATION,
    out: Out = _PAIRS,
) -> None:
    """Write the fixed val and test pairs, and a preview of the degradations."""
    from tudsr.data.expectations import load_validation
    from tudsr.data.pairs import make_pairs
    from tudsr.data.preview import write_preview
    from tudsr.data.sets import photographs_of
    from tudsr.profile import load_profile

    settings = load_profile(profile)
    accepted = set(load_validation(validation).accepted)
    photos = [p for p in photographs_of(settings.data) if p.file in accepted]
    made = make_pairs(photos, settings.pairs, settings.seed, out)
    write_preview(photos, out / "preview.png", settings.seed)
    typer.echo(f"{len(made.pairs)} pairs: {out}")
