"""``tudsr upscale IN OUT``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tudsr.upscale.chosen import ChosenModel

if TYPE_CHECKING:
    from tudsr.upscale.files import Outcome

Colour = Literal["wavelet", "adain", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


def upscale(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a picture, or a folder of them")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the result, or a folder")],
    scale: Annotated[float | None, typer.Option(help="total ratio, 1.5 to 16 [4]")] = None,
    width: Annotated[int | None, typer.Option(help="width of the result, pixels")] = None,
    height: Annotated[int | None, typer.Option(help="height of the result, pixels")] = None,
    longest: Annotated[int | None, typer.Option(help="longer side of the result, pixels")] = None,
    megapixels: Annotated[float | None, typer.Option(help="size of the result")] = None,
    fidelity: Annotated[
        float, typer.Option(min=0, max=1, help="0: most faithful, 1: most generated")
    ] = 1.0,
    model: Annotated[
        str | None, typer.Option(help="a bundle's folder, a version or an alias [champion]")
    ] = None,
    colour: Annotated[Colour | None, typer.Option(help="colour correction [the model's]")] = None,
    tile: Annotated[int | None, typer.Option(help="tile side, pixels [the model's]")] = None,
    overlap: Annotated[int | None, typer.Option(help="tile overlap, pixels [the model's]")] = None,
    device: Annotated[Device, typer.Option(help="where the model runs")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="of the model; auto is bf16 where it is faster")
    ] = "auto",
) -> None:
    """Enlarge a picture, or every picture in a folder.

    In a folder, sub-folders are kept, finished pictures are skipped, and broken ones are listed at
    the end, with exit code 1.
    """
    from tudsr.upscale.files import plan_jobs, upscale_folder, upscale_one
    from tudsr.upscale.target import Target

    sizes = (scale, width, height, longest, megapixels)
    wanted = Target(*sizes) if any(size is not None for size in sizes) else Target(scale=4)
    jobs = plan_jobs(source, target)
    changes = {"colour": colour, "tile_px": tile, "overlap_px": overlap}
    chosen = ChosenModel(model, wanted, fidelity, device, precision, changes)
    with tile_bar() as progress:
        if source.is_dir():
            outcomes = list(upscale_folder(jobs, chosen, progress, _warn))
        else:
            outcomes = [upscale_one(jobs[0], chosen, progress, _warn)]
    _report(outcomes, chosen)


def _warn(sentence: str) -> None:
    typer.secho(f"note: {sentence}", fg="yellow", err=True)


@contextmanager
def tile_bar() -> Generator[Callable[[int, int], None]]:
    """A bar over the tiles of the current picture, on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("tiles", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(outcomes: list[Outcome], chosen: ChosenModel) -> None:
    """One line for what was made, one on stderr for each failure; exit code 1 if there is any."""
    made = [o for o in outcomes if o.sizes is not None]
    failed = [o for o in outcomes if o.error is not None]
    seconds = sum(o.seconds for o in made)
    if len(outcomes) == 1 and made and made[0].sizes is not None:
        (h, w), (height, width) = made[0].sizes
        what = f"{w} x {h} -> {width} x {height}: {made[0].job.target}"
    else:
        skipped = sum(o.skipped for o in outcomes)
        what = f"{len(made)} made, {skipped} were there already, {len(failed)} failed"
    for outcome in failed:
        typer.secho(f"{outcome.job.source}: {outcome.error}", fg="red", err=True)
    by = f" ({chosen.signature()})" if made else ""
    typer.echo(f"{what}, {seconds:.1f} s{by}")
    if failed:
        raise typer.Exit(1)
