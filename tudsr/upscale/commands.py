"""``tudsr upscale IN OUT``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tudsr.profile import UpscaleSettings
    from tudsr.release.bundle import BundleManifest
    from tudsr.upscale.files import Outcome
    from tudsr.upscale.upscaler import Upscaler

Colour = Literal["wavelet", "adain", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]


def upscale(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a picture, or a folder of them")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the result, or a folder")],
    scale: Annotated[float, typer.Option(help="total ratio, 1.5 to 16")] = 4,
    model: Annotated[
        str | None, typer.Option(help="a bundle's folder, a version or an alias [champion]")
    ] = None,
    colour: Annotated[Colour | None, typer.Option(help="colour correction [the model's]")] = None,
    tile: Annotated[int | None, typer.Option(help="tile side, pixels [the model's]")] = None,
    overlap: Annotated[int | None, typer.Option(help="tile overlap, pixels [the model's]")] = None,
    device: Annotated[Device, typer.Option(help="where the model runs")] = "auto",
) -> None:
    """Enlarge a picture, or every picture in a folder.

    In a folder, sub-folders are kept, finished pictures are skipped, and broken ones are listed at
    the end, with exit code 1.
    """
    from tudsr.upscale.files import plan_jobs, upscale_folder, upscale_one

    jobs = plan_jobs(source, target)
    changes = {"colour": colour, "tile_px": tile, "overlap_px": overlap}
    with _tile_bar() as progress:
        chosen = _Chosen(model, scale, device, progress, changes)
        if source.is_dir():
            outcomes = list(upscale_folder(jobs, scale, chosen.upscaler, chosen.signature))
        else:
            outcomes = [upscale_one(jobs[0], scale, chosen.upscaler, chosen.signature)]
    _report(outcomes, chosen)


@dataclass
class _Chosen:
    """The model that was asked for, opened when the first picture turns out to be readable."""

    model: str | None
    scale: float
    device: str
    progress: Callable[[int, int], None]
    changes: dict[str, Any] = field(default_factory=dict[str, Any])

    def upscaler(self) -> Upscaler:
        """Loaded once."""
        return self._upscaler

    def signature(self) -> str:
        """Program, model and whatever else decides the result: skipping relies on it."""
        from importlib.metadata import version

        bundle, how = self._bundle[1], self._settings
        return (
            f"tudsr {version('tudsr')}, model {bundle.model_name} {bundle.bundle_hash[:12]}, "
            f"x{self.scale:g}, tile {how.tile_px}/{how.overlap_px}, colour {how.colour}"
        )

    @cached_property
    def _bundle(self) -> tuple[Path, BundleManifest]:
        from tudsr.release.bundle import load_bundle
        from tudsr.release.locate import locate_model

        folder = locate_model(self.model)
        return folder, load_bundle(folder, verify=False)  # the runtime checks every file

    @cached_property
    def _settings(self) -> UpscaleSettings:
        from pydantic import ValidationError

        from tudsr.errors import SettingsError
        from tudsr.profile import UpscaleSettings

        changed = {name: value for name, value in self.changes.items() if value is not None}
        try:
            return UpscaleSettings.model_validate(
                {**self._bundle[1].upscale.model_dump(), **changed}
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(
                f"{first['loc'][0]}: {first['msg']} (got {first['input']!r})"
            ) from None

    @cached_property
    def _upscaler(self) -> Upscaler:
        from tudsr.model.runtime import load_runtime
        from tudsr.upscale.upscaler import Upscaler

        runtime = load_runtime(self._bundle[0], self.device)
        return Upscaler(runtime, self._settings, self.progress)


@contextmanager
def _tile_bar() -> Generator[Callable[[int, int], None]]:
    """A bar over the tiles of the current picture, on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("tiles", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(outcomes: list[Outcome], chosen: _Chosen) -> None:
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
