"""The ``tudsr`` command. Heavy libraries are imported when a command runs, not before."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from tudsr.data.commands import app as data_app
from tudsr.errors import Interrupted, TudsrError
from tudsr.evaluate.commands import evaluate
from tudsr.model.commands import app as base_app
from tudsr.release.commands import models, promote, rollback, ship
from tudsr.release.status import status
from tudsr.train.commands import app as train_app
from tudsr.upscale.commands import compare, upscale

app = typer.Typer(
    name="tudsr",
    help="Twice upsampling-diffusion super-resolution: from photographs to a served model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(upscale)
app.command()(compare)
app.command()(evaluate)
app.add_typer(train_app, name="train")
app.add_typer(data_app, name="data")
app.add_typer(base_app, name="base")
app.command()(models)
app.command()(promote)
app.command()(rollback)
app.command()(ship)
app.command()(status)


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="a profile's name, or a .yaml file")] = "tiny",
    schema: Annotated[
        Path | None, typer.Option(help="write the settings' JSON schema to this file instead")
    ] = None,
) -> None:
    """Print a profile with every setting written out, or write the schema of profiles."""
    from tudsr.images.atomic import write_json
    from tudsr.profile import Profile, dump_profile, load_profile

    if schema is not None:
        write_json(schema, Profile.model_json_schema())
    else:
        typer.echo(dump_profile(load_profile(name)), nl=False)


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and exit code 2.

    A training that was told to stop and has saved ends with 75, another command that SIGINT
    interrupts with 130.
    """
    try:
        _add_commands()
        app()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            typer.secho(str(stop), fg="yellow", err=True)
        sys.exit(stop.code)
    except TudsrError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}. Nothing that was there is lost")


def _add_commands() -> None:
    """Those of other packages, by their entry points; an image may leave such a package out."""
    for entry in entry_points(group="tudsr.commands"):
        try:
            found = entry.load()
        except ModuleNotFoundError as missing:
            if missing.name != entry.module.partition(".")[0]:
                raise
            continue
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=entry.name)
        else:
            app.command(entry.name)(found)


def _fail(sentence: str) -> None:
    typer.secho(f"error: {sentence}", fg="red", err=True)
    sys.exit(2)
