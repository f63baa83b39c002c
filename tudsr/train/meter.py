"""How training is going: a bar on a terminal, throughput and memory, losses that are no numbers."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from tudsr.errors import TrainingError
from tudsr.train.ranks import maximum, rank


class Meter:
    """Progress and throughput: a bar on a terminal, else a line every tenth; rank 0 alone."""

    def __init__(self, name: str, images: int, seen: int) -> None:
        console = Console(stderr=True)
        self.name, self.images = name, images
        self.started, self.first, self.tenths = time.monotonic(), seen, 10 * seen // images
        self.in_lines = rank() == 0 and not console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} images"),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
            disable=rank() != 0 or not console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=images, completed=seen, losses="")

    def __enter__(self) -> Meter:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, seen: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=seen)

    def figures(self, seen: int, losses: Mapping[str, float]) -> dict[str, float]:
        """Losses, images a second since this process began, and the peak of memory."""
        text = " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in losses.items())
        self.bar.update(self.task, losses=text)
        elapsed = time.monotonic() - self.started
        speed = (seen - self.first) / max(elapsed, 1e-9)
        if self.in_lines and 10 * seen // self.images > self.tenths:
            self.tenths = 10 * seen // self.images
            left = (self.images - seen) / max(speed, 1e-9)
            told = f"{self.name}: {min(seen, self.images)} of {self.images} images, {text}"
            print(f"{told}, {left:.0f} s left", file=sys.stderr, flush=True)
        return {**losses, "images_per_s": speed, "peak_memory_gib": peak_memory_gib()}


class FiniteCheck:
    """Notices a loss that is not finite at any update, without waiting for the device each time."""

    def __init__(self, name: str, kept: str) -> None:
        self.name, self.kept = name, kept
        self._first_bad: dict[str, Tensor] = {}

    def note(self, seen: int, losses: Mapping[str, Tensor]) -> None:
        """Keep, on the device, after how many images each loss was first not finite."""
        for name, loss in losses.items():
            before = self._first_bad.get(name, torch.zeros((), device=loss.device))
            good = loss.isfinite() | (before > 0)
            self._first_bad[name] = torch.where(good, before, float(seen))

    def check(self) -> None:
        """Look at what was kept; every rank must come here at the same update.

        Raises:
            TrainingError: it names the losses that were not finite first, on whichever rank;
                those after them only follow from weights that these have spoilt.
        """
        if not self._first_bad:
            return
        kept = torch.stack(list(self._first_bad.values())).tolist()
        first_bad = dict(zip(self._first_bad, maximum(kept), strict=True))
        self._first_bad.clear()
        bad = [seen for seen in first_bad.values() if seen > 0]
        if bad:
            first = [name for name, seen in first_bad.items() if seen == min(bad)]
            raise TrainingError(
                f"{self.name}: {', '.join(first)} is not finite after {int(min(bad))} images; "
                f"the last checkpoint under {self.kept} is kept. Lower the learning rate or "
                "clip_norm"
            )


def peak_memory_gib() -> float:
    """Peak of the GPU's allocator where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
