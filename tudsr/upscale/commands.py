"""``tudsr upscale IN OUT`` and ``tudsr compare A B``."""

from __future__ import annotations

from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tudsr.machine import share_one_heap
from tudsr.upscale.chosen import ChosenModel

if TYPE_CHECKING:
    from tudsr.upscale.files import Job, Outcome
    from tudsr.upscale.target import Target
    from tudsr.upscale.upscaler import Note, Progress

    Make = Callable[[Job, Progress, Note], Outcome]

Colour = Literal["wavelet", "adain", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
Runtime = Literal["auto", "torch", "openvino"]


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
    runtime: Annotated[
        Runtime, typer.Option(help="what runs it; auto is openvino on a CPU, where there is a form")
    ] = "auto",
    seed: Annotated[
        int | None, typer.Option(help="draw latents instead of taking their mode, where they can")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            min=128,
            help="MiB a picture may take beside the model; tiles shrink to fit [half of all]",
        ),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="leave out EXIF, XMP and resolution")
    ] = False,
) -> None:
    """Enlarge a picture, or every picture in a folder.

    In a folder, sub-folders are kept, finished pictures are skipped, and broken ones are listed at
    the end, with exit code 1. Ctrl-C stops within a second; the same command goes on.
    """
    share_one_heap()
    from tudsr.upscale.files import FolderRun, plan_jobs
    from tudsr.upscale.memory import default_budget
    from tudsr.upscale.target import Target

    sizes = (scale, width, height, longest, megapixels)
    wanted = Target(*sizes) if any(size is not None for size in sizes) else Target(scale=4)
    changes = {"colour": colour, "tile_px": tile, "overlap_px": overlap}
    budget = memory * 2**20 if memory is not None else default_budget()
    chosen = ChosenModel(
        model, wanted, fidelity, device, precision, runtime, seed, strip, budget, changes
    )
    if source.is_dir():
        run = FolderRun(source, target, chosen)
        outcomes = _run(run.jobs, run.make, run.clean_up, wanted)
    else:
        jobs = plan_jobs(source, target)
        outcomes = _run(jobs, _one(chosen), _clean_up_of(jobs[0].target), wanted)
    _report(outcomes, chosen)


def _clean_up_of(target: Path) -> Callable[[], None]:
    """Removes what an encoder that was cut off has left of a result."""
    from tudsr.images.atomic import remove_leftovers

    return lambda: remove_leftovers(target.parent, escape(target.stem[:40]))


def _one(chosen: ChosenModel) -> Make:
    """Enlarges one picture whatever is at its target's place."""
    from tudsr.upscale.files import upscale_one

    return lambda job, progress, note: upscale_one(job, chosen, progress, note)


def _run(
    jobs: list[Job], make: Make, clean_up: Callable[[], None], wanted: Target
) -> list[Outcome]:
    """All jobs under their bars; a signal ends it with the shell's code for it."""
    from tudsr.upscale.bars import bars
    from tudsr.upscale.stopping import Stopped, stoppable

    outcomes = list[Any]()
    try:
        with stoppable(clean_up), bars(jobs, wanted) as shown:
            for job in jobs:
                shown.begin(job)
                outcomes.append(make(job, shown.tile, _warn))
                shown.end(outcomes[-1])
    except Stopped as stop:
        clean_up()
        done = f"{len(outcomes)} of {len(jobs)} pictures done; run it again to go on"
        typer.secho(f"{stop}: {done}", fg="yellow", err=True)
        raise typer.Exit(stop.code) from None
    return outcomes


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="the picture before")],
    after: Annotated[Path, typer.Argument(metavar="B", help="the picture after")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the page")] = Path("compare.html"),
) -> None:
    """Write a page with a before/after slider; it needs nothing but itself."""
    from tudsr.upscale.compare import write_comparison

    write_comparison(before, after, out)
    typer.echo(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


def _warn(sentence: str) -> None:
    typer.secho(f"note: {sentence}", fg="yellow", err=True)


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
    if made and (sentence := chosen.smaller_tile()) is not None:
        _warn(sentence)
    typer.echo(f"{what}, {seconds:.1f} s{by}")
    if failed:
        raise typer.Exit(1)
