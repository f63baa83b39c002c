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


class Bars:
    """One bar over the tiles of the picture at hand; with several pictures one over the folder.

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
        self.current = 0.0

    def tile(self, done: int, total: int) -> None:
        """A tile of the picture at hand is made."""
        self.bar.update(self.tiles, completed=done, total=total)
        if self.weights:
            if self.folder is None:
                self.folder = self.bar.add_task("folder", total=self.left)
            self.bar.update(self.folder, completed=self.done + self.current * done / total)

    def begin(self, job: Job) -> None:
        """A picture's turn has come."""
        self.bar.reset(self.tiles, total=None, description=job.source.name[:30])
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
