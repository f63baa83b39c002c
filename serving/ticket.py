"""One picture's way through the service: its cost, its turn, and whether it must stop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from serving.refusal import Refusal
from tudsr.profile import UpscaleSettings
from tudsr.upscale.target import Target
from tudsr.upscale.way import longest_way


@dataclass(frozen=True)
class Cost:
    """What a picture will take.

    Attributes:
        tiles: through the model, all stages.
        px: pixels of those tiles, overlap and padding included.
        result_px: pixels of the result.
    """

    tiles: int
    px: int
    result_px: int


def cost_of(
    size: tuple[int, int], target: Target | float, how: UpscaleSettings, multiple: int
) -> Cost:
    """The most that enlarging a picture of (height, width) can take, from its size alone.

    Raises:
        SettingsError: a target out of reach for a picture of this size.
    """
    way = longest_way(size, Target.of(target), how, multiple)
    return Cost(way.tiles, way.px, math.prod(way.sizes[-1]))


class Ticket:
    """A picture that was let in. Attributes are set by the scheduler; any thread may `stop` it.

    Attributes:
        due: its place in the order: earliest first, for slots and for tiles.
        job: whether it is a job, for which nobody waits on the line.
        started: when work on it began, None while it waits; monotonic seconds, as all here.
        remade_tiles: were not finite and were made again in fp32.
    """

    def __init__(self, cost: Cost, due: float, expires: float, job: bool = False) -> None:
        self.cost, self.due, self.expires, self.job = cost, due, expires, job
        self.arrived = time.monotonic()
        self.started: float | None = None
        self.tiles_done, self.tiles_total = 0, cost.tiles
        self.remade_tiles = 0
        self._why: Refusal | None = None

    def begin(self, limit_s: float) -> None:
        """Work on it begins; a job has ``limit_s`` from now on, however long it waited."""
        self.started = time.monotonic()
        if self.job:
            self.expires = self.started + limit_s

    @property
    def waited_s(self) -> float:
        """From arrival to the start of work."""
        return (self.started or time.monotonic()) - self.arrived

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it."""
        return self._why is not None

    @property
    def reason(self) -> Refusal:
        """Why it was stopped."""
        return self._why or self.too_late()

    @property
    def left_px(self) -> float:
        """Pixels that the model has still to see."""
        if self.stopped:
            return 0
        return self.cost.px * (1 - self.tiles_done / max(1, self.tiles_total))

    @property
    def left_tiles(self) -> int:
        """Tiles still to be made."""
        return 0 if self.stopped else max(0, self.tiles_total - self.tiles_done)

    def progress(self, done: int, total: int) -> None:
        """Called by the upscaler after each tile, and between parts of what follows.

        Raises:
            Refusal: as `check`.
        """
        self.tiles_done, self.tiles_total = done, total
        self.check()

    def stop(self, why: Refusal) -> None:
        """Let work on it end before the next tile; the first reason counts."""
        self._why = self._why or why

    def check(self) -> None:
        """Raise the reason to stop, if there is one.

        Raises:
            Refusal: as given to `stop`, or ``deadline``.
        """
        if self._why is None and time.monotonic() > self.expires:
            self._why = self.too_late()
        if self._why is not None:
            raise self._why

    def too_late(self) -> Refusal:
        """The deadline has passed."""
        since = self.started if self.job and self.started is not None else self.arrived
        as_job = "" if self.job else ", or send it as a job to /v1/jobs where there are jobs"
        return Refusal(
            "deadline",
            f"not done within {self.expires - since:.0f} s ({self.tiles_done} of "
            f"{self.tiles_total} tiles were): ask for a smaller result or a later deadline{as_job}",
        )
