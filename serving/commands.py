"""``tudsr serve``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def app(
    model: Annotated[
        str | None,
        typer.Option(
            envvar="TUDSR_MODEL", help="a bundle's folder, a version or an alias [champion]"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 3000,
) -> None:
    """Serve the champion: a page on / and an endpoint on /v1/upscale."""
    from serving.settings import load_settings
    from tudsr.profile import PROJECT_ROOT
    from tudsr.release.locate import locate

    load_settings().all_tokens()  # a mistake is one sentence here, and a traceback from BentoML
    found = locate(model)
    which = f"version {found.version}" if found.version else str(found.path)
    typer.echo(f"serving {which} on http://{host}:{port} (Ctrl-C ends it)")
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    if model is not None:
        os.environ["TUDSR_MODEL"] = model
    arguments = ["serve", "serving.service:Tudsr", "--host", host, "--port", str(port)]
    folder = ["--working-dir", str(PROJECT_ROOT)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *arguments, *folder])
