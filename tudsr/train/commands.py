"""``tudsr train …``: each training on its own, with the settings of a profile.

Under ``torchrun`` its processes share a stage's training: ``torchrun --nproc-per-node=4 -m tudsr
train stage1 --profile sd21``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train the base or one of the stages alone.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Option("--profile", help="profile name or .yaml file")]
Out = Annotated[Path, typer.Option(help="where the result goes")]
Work = Annotated[Path, typer.Option(help="checkpoints and figures; a killed run goes on from here")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="only go on: an error that says what differs where nothing fits to go on"
    ),
]


@app.command()
def base(
    out: Out = Path("outputs/base"),
    work: Work = Path("outputs/train/base-work"),
    profile: ProfileName = "tiny",
    start: Annotated[
        Path | None,
        typer.Option(help="a base to go on from: the last part of pre-training alone"),
    ] = None,
) -> None:
    """Pre-train a small base on the training photographs."""
    from tudsr.profile import load_profile
    from tudsr.train.finish import finish_base
    from tudsr.train.photos import shared_photos
    from tudsr.train.pretrain import pretrain_base

    settings = load_profile(profile)
    photos = shared_photos(settings)
    if start is None:
        pretrain_base(settings, photos, out, work)
    else:
        finish_base(settings, photos, start, out, work)
    _say(f"base written to {out}; base.source in a profile names it")


@app.command()
def stage1(
    out: Out = Path("outputs/train/adapter1"),
    work: Work = Path("outputs/train/stage1"),
    profile: ProfileName = "tiny",
    resume: Resume = False,
) -> None:
    """Train adapter 1 at R (the paper's algorithm 1)."""
    from tudsr.profile import load_profile
    from tudsr.train.photos import shared_photos
    from tudsr.train.stages import train_stage1

    settings = load_profile(profile)
    train_stage1(settings, shared_photos(settings), out, work, resume=resume)
    _say(f"adapter 1 written to {out}")


@app.command()
def stage2(
    adapter1: Annotated[Path, typer.Option(help="stage 1's result")] = Path(
        "outputs/train/adapter1/adapter.safetensors"
    ),
    out: Out = Path("outputs/train/adapter2"),
    work: Work = Path("outputs/train/stage2"),
    profile: ProfileName = "tiny",
    resume: Resume = False,
) -> None:
    """Train adapter 2 at N·R on chunks (the paper's algorithm 2)."""
    from tudsr.profile import load_profile
    from tudsr.train.photos import shared_photos
    from tudsr.train.stages import train_stage2

    settings = load_profile(profile)
    photos = shared_photos(settings)
    train_stage2(settings, photos, adapter1, out, work, resume=resume)
    _say(f"adapter 2 written to {out}")


def _say(sentence: str) -> None:
    from tudsr.train.ranks import rank

    if rank() == 0:
        typer.echo(sentence)
