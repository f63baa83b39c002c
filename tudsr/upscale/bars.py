"""Progress on stderr: a bar for the picture, one for the folder, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tudsr.upscale.files import Job, Outcome
    from tudsr.upscale.target import Target

_PERIOD_S = 600.0
# Of a picture's time, what follows its tiles: 14 to 19 % at x8 to x2 with the shipped model, 512².
_FINISHING = 0.15


class Bars:
    """One bar over the tiles of the picture at hand; with several pictures one over the folder.

    What follows the tiles, correction and encoding, takes longer or shorter beside them from model
    to model: a bar of its own names it, without a percentage.

    The folder's is counted in pixels of the results, which is what takes the time, and starts with
    the first tile, so that neither skipped pictures nor loading the model bend the estimate.
    """

    def __init__(self, bar: Progress, jobs: Sequence[Job], target: Target) -> None:
        self.bar = bar
        self.weights = {job.source: _pixels(job, target) for job in jobs} if len(jobs) > 1 else {}
        self.left = sum(self.weights.values())
        self.done = 0.0
        self.folder: TaskID | None = None
        self.tiles = bar.add_task("tiles", total=None)
        self.rest = bar.add_task("finishing", total=None, visible=False)
        self.current = 0.0

    def tile(self, done: int, total: int) -> None:
        """A tile of the picture at hand is made, or a part of what follows the last."""
        self.bar.update(self.tiles, completed=done, total=total, visible=done < total)
        self.bar.update(self.rest, visible=done >= total)
        if self.weights:
            if self.folder is None:
                self.folder = self.bar.add_task("folder", total=self.left)
            share = (1 - _FINISHING) * done / total
            self.bar.update(self.folder, completed=self.done + self.current * share)

    def begin(self, job: Job) -> None:
        """A picture's turn has come."""
        name = job.source.name[:30]
        self.bar.reset(self.tiles, total=None, description=name, visible=True)
        self.bar.reset(self.rest, total=None, description=f"finishing {name}", visible=False)
        self.current = self.weights.get(job.source, 0.0)

    def end(self, outcome: Outcome) -> None:
        """A picture is made, skipped or broken."""
        weight = self.weights.get(outcome.job.source, 0.0)
        if outcome.sizes is None:  # no work: it leaves the sum
            self.left -= weight
        else:
            self.done += weight
        if self.folder is not None:
            self.bar.update(self.folder, completed=self.done, total=self.left)


@contextmanager
def bars(jobs: Sequence[Job], target: Target) -> Generator[Bars]:
    """Bars on stderr while entered, where that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    off = not console.is_terminal
    with Progress(
        *columns, console=console, transient=True, disable=off, speed_estimate_period=_PERIOD_S
    ) as bar:
        yield Bars(bar, [] if off else jobs, target)


def _pixels(job: Job, target: Target) -> float:
    """Pixels of the result, from the header; 0 where it will be refused."""
    from PIL import Image

    from tudsr.errors import SettingsError
    from tudsr.images.formats import readable

    try:
        with Image.open(job.source, formats=readable()) as image:
            return float(math.prod(target.size(image.height, image.width)))
    except (SettingsError, OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError):
        return 0.0
