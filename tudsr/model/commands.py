"""``tudsr base …``: the frozen part, taken over from Stable Diffusion or drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="The frozen base: import Stable Diffusion's, or draw random weights.",
    no_args_is_help=True,
)

Target = Annotated[Path, typer.Argument(metavar="DIR", help="the base's folder")]


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="folder in diffusers' layout, or OWNER/NAME on the hub")
    ],
    out: Target,
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit of the hub [main]")
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="the text that conditions every step; the profile's base.prompt")
    ] = "",
) -> None:
    """Check SD2.1-base, copy it to DIR and compute the prompt's embedding once.

    Afterwards neither SOURCE nor its text encoder is needed.
    """
    from tudsr.model.import_base import import_base

    info = import_base(source, out, revision, prompt)
    at = f" at {info['revision']}" if info["revision"] else ""
    typer.echo(f"base written to {out}: {info['arch']}, from {info['source']}{at}")


@app.command()
def random(
    out: Target,
    arch: Annotated[
        Literal["sd21", "sd21-eighth", "small", "smoke"],
        typer.Option(help="sd21-eighth has SD2.1-base's classes at an eighth of its channels"),
    ] = "sd21",
    dtype: Annotated[Literal["bf16", "fp16", "fp32"], typer.Option(help="as stored")] = "bf16",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write random weights in the true layout: proves the path, restores nothing."""
    import torch

    from tudsr.model.base import random_base, save_base
    from tudsr.model.import_base import check_target

    check_target(out)
    base = random_base(arch, seed)
    types = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    info = {"name": f"random-{arch}-{seed}", **base.info}
    save_base(base, out, info, types[dtype])
    unet, codec = (sum(p.numel() for p in m.parameters()) for m in (base.unet, base.codec))
    typer.echo(f"base written to {out}: UNet {unet:,} parameters, codec {codec:,}, {dtype}")


@app.command()
def check(
    folder: Target,
    px: Annotated[int, typer.Option(min=128, help="side of the picture, pixels")] = 512,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option()] = "auto",
) -> None:
    """Hash every file and take one step, forward and backward, on this machine.

    Exit code 1: values that are not finite, or attention that holds its scores.
    """
    from tudsr.model.attention import check_step
    from tudsr.model.base import load_base_folder
    from tudsr.profile import RuntimeSettings
    from tudsr.train.device import pick_device

    settings = RuntimeSettings(device=device)
    base = load_base_folder(folder).requires_grad_(False)
    base = base.to(pick_device(settings))
    found = check_step(base, px, settings)
    finite = "finite" if found.finite else "NOT FINITE"
    scores = f"HELD: {found.scores[0]}" if found.scores else "never held"
    typer.echo(
        f"{px} px, forward and backward in {found.seconds:.2f} s on {base.prompt.device.type}: "
        f"{finite}; attention scores {scores}"
    )
    if found.scores or not found.finite:
        raise typer.Exit(1)
